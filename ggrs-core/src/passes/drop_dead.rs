//! Drops nodes that neither an output nor a state needs. Inputs stay: they are the graph's signature.

use super::{Outcome, Pass};
use crate::Graph;
use crate::ops::{LeafKind, Op};

pub(super) struct DropDead;

impl Pass for DropDead {
    fn name(&self) -> &'static str {
        "drop_dead"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let mut keep = graph.live_nodes();
        for ((_, node), keep) in graph.iter().zip(&mut keep) {
            *keep |= matches!(&node.op, Op::Leaf(leaf) if leaf.kind == LeafKind::Input);
        }
        if keep.iter().all(|k| *k) {
            Outcome::NoMatch
        } else {
            Outcome::Keep(keep)
        }
    }
}
