//! Merges nodes that compute the same from the same operands.

use std::collections::HashMap;

use super::{Outcome, Pass};
use crate::ops::{Alias, Op};
use crate::{Graph, NodeId, Patch, PatchValue, ValueId};

pub(super) struct MergeEqual;

impl Pass for MergeEqual {
    fn name(&self) -> &'static str {
        "merge_equal"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let written = storages_written(graph);
        let mut first: HashMap<(&Op, &[ValueId]), NodeId> = HashMap::new();
        let mut patches = Vec::new();
        for (id, node) in graph.iter() {
            let reads_written = node
                .inputs
                .iter()
                .any(|v| written[graph.value(*v).storage.index()]);
            let alone = matches!(node.op, Op::Leaf(_))
                || node.op.is_exchange()
                || node.op.spec().alias() == Alias::InPlace
                || reads_written;
            // A result that is written later must stay a copy of its own.
            let overwritten = node.outputs.iter().any(|v| written[v.index()]);
            if alone || overwritten {
                continue;
            }
            match first.get(&(&node.op, &node.inputs[..])) {
                None => {
                    first.insert((&node.op, &node.inputs), id);
                }
                Some(twin) => {
                    let twins = graph.node(*twin).outputs.iter();
                    let replace = node
                        .outputs
                        .iter()
                        .zip(twins)
                        .map(|(v, t)| (*v, PatchValue::Old(*t)))
                        .collect();
                    patches.push(Patch {
                        at: id,
                        ops: Vec::new(),
                        replace,
                    });
                }
            }
        }
        if patches.is_empty() {
            Outcome::NoMatch
        } else {
            Outcome::Applied(patches)
        }
    }
}

/// For each value, whether some node writes its storage in place.
fn storages_written(graph: &Graph) -> Vec<bool> {
    let mut written = vec![false; graph.values().len()];
    for node in graph.nodes() {
        if node.op.spec().alias() == Alias::InPlace
            && let Some(v) = node.outputs.first()
        {
            written[graph.value(*v).storage.index()] = true;
        }
    }
    written
}
