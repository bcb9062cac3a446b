//! Liveness: for each storage, the steps between which its memory must be kept.

use crate::device::Fusion;
use crate::ops::LeafKind;
use crate::{Graph, NodeId};

/// First and last step that touch a storage, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Live {
    /// One step.
    pub(super) const fn at(step: usize) -> Self {
        Self {
            first: step,
            last: step,
        }
    }

    /// The same, through the whole of every fusion that it touches.
    pub(super) fn through(self, fusions: &[Fusion]) -> Self {
        // A life ends in at most one fusion on either side: they are apart.
        let holding = |step: usize| fusions.iter().find(|f| f.steps.contains(&step));
        Self {
            first: holding(self.first).map_or(self.first, |f| f.steps.start),
            last: holding(self.last).map_or(self.last, |f| f.steps.end.saturating_sub(1)),
        }
    }
}

/// For each value that owns arena storage, when it lives; `None` for views, weights, states and constants.
///
/// `steps` are the nodes that run, in order. Inputs and outputs live through the whole run: inputs may be written
/// once and run many times, outputs are read after the last step.
pub(super) fn liveness(graph: &Graph, steps: &[NodeId], fusions: &[Fusion]) -> Vec<Option<Live>> {
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
                live[v.index()] = Some(Live::at(step));
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
    for l in live.iter_mut().flatten() {
        *l = l.through(fusions);
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Route;

    #[test]
    fn lives_last_through_the_fusions_that_they_touch() {
        let fusion = |steps| Fusion {
            steps,
            route: Route::outside("together", "a test"),
        };
        let fusions = [fusion(2..5), fusion(7..9)];
        let life = |first, last| Live { first, last };
        for (alone, fused) in [
            (life(0, 1), life(0, 1)),
            // Read last at the first of the steps, written first at the last of them.
            (life(0, 2), life(0, 4)),
            (life(4, 6), life(2, 6)),
            (life(3, 3), life(2, 4)),
            (life(1, 8), life(1, 8)),
            (life(4, 7), life(2, 8)),
            (life(5, 6), life(5, 6)),
        ] {
            assert_eq!(alone.through(&fusions), fused);
        }
    }
}
