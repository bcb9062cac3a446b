//! Looking at a graph as passes do: who makes a value, who uses it.

use smallvec::SmallVec;

use crate::ops::Op;
use crate::{Graph, Node, NodeId, ValueId};

/// A graph with its users at hand.
pub(super) struct View<'g> {
    pub(super) graph: &'g Graph,
    users: Vec<SmallVec<[NodeId; 4]>>,
    is_output: Vec<bool>,
}

impl<'g> View<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let mut is_output = vec![false; graph.values().len()];
        for (_, v) in graph.outputs() {
            is_output[v.index()] = true;
        }
        Self {
            graph,
            users: graph.users(),
            is_output,
        }
    }

    /// The node that makes a value.
    pub(super) fn producer(&self, value: ValueId) -> &'g Node {
        self.graph.node(self.graph.value(value).producer)
    }

    /// The only node that uses a value, if it is used once and not an output.
    pub(super) fn only_user(&self, value: ValueId) -> Option<NodeId> {
        match self.users[value.index()].as_slice() {
            [one] if !self.is_output[value.index()] => Some(*one),
            _ => None,
        }
    }

    /// The nodes that use a value.
    pub(super) fn users(&self, value: ValueId) -> &[NodeId] {
        &self.users[value.index()]
    }

    /// Is the value a weight, or a view of one?
    pub(super) fn is_constant(&self, value: ValueId) -> bool {
        use crate::ops::LeafKind::{Constant, Weight};
        let storage = self.graph.value(value).storage;
        match &self.producer(storage).op {
            Op::Leaf(leaf) => matches!(leaf.kind, Weight | Constant(_)),
            _ => false,
        }
    }
}
