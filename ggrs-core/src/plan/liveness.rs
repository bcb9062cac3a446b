//! Liveness: for each storage, the steps between which its memory must be kept.

use crate::ops::LeafKind;
use crate::{Graph, NodeId};

/// First and last step that touch a storage, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) first: usize,
    pub(super) last: usize,
}

/// For each value that owns arena storage, when it lives; `None` for views, weights, states and constants.
///
/// `steps` are the nodes that run, in order. Inputs and outputs live through the whole run: inputs may be written
/// once and run many times, outputs are read after the last step.
pub(super) fn liveness(graph: &Graph, steps: &[NodeId]) -> Vec<Option<Live>> {
    let end = steps.len();
    let mut live: Vec<Option<Live>> = vec![None; graph.values().len()];
    for (_, kind, value) in graph.leaves() {
        if *kind == LeafKind::Input {
            live[value.index()] = Some(Live {
                first: 0,
                last: end,
            });
        }
    }
    for (step, id) in steps.iter().enumerate() {
        let node = graph.node(*id);
        for v in &node.outputs {
            let storage = graph.value(*v).storage;
            if storage == *v {
                live[v.index()] = Some(Live {
                    first: step,
                    last: step,
                });
            }
        }
        for v in node.inputs.iter().chain(&node.outputs) {
            let storage = graph.value(*v).storage;
            if let Some(l) = &mut live[storage.index()] {
                l.last = l.last.max(step);
            }
        }
    }
    for (_, v) in graph.outputs() {
        if let Some(l) = &mut live[graph.value(v).storage.index()] {
            l.last = end;
        }
    }
    live
}
