//! Graphs: built op by op, sealed, immutable. A sealed graph is acyclic and every value in it is described.
//!
//! A graph holds no data but its constants, and knows no device.

mod bind;
mod builder;
mod builder_ops;
mod dump;
mod rewrite;
mod topo;

use std::sync::Arc;

use smallvec::SmallVec;

pub use builder::{GraphBuilder, Value};
pub use builder_ops::Pages;
pub use rewrite::{Patch, PatchOp, PatchValue};

use crate::ops::{Alias, LeafKind, Op};
use crate::{NodeId, Symbol, TensorDesc, ValueId};

/// One op with its operands and results.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op.
    pub op: Op,
    /// Its operands.
    pub inputs: SmallVec<[ValueId; 4]>,
    /// Its results.
    pub outputs: SmallVec<[ValueId; 2]>,
    /// Its name, unique in the graph.
    pub name: Arc<str>,
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Dtype, shape, layout.
    pub desc: TensorDesc,
    /// The node that makes it.
    pub producer: NodeId,
    /// Which of the node's outputs it is.
    pub output: usize,
    /// The value whose storage it reads: itself, unless it is a view or written in place.
    pub storage: ValueId,
}

/// A sealed graph.
///
/// Made only by [`GraphBuilder::seal`] (and by what goes through it: binding and passes). Nodes are in an order in
/// which they can run.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) outputs: Vec<(Arc<str>, ValueId)>,
    pub(crate) symbols: Vec<Symbol>,
}

impl Graph {
    /// The nodes, in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (NodeId::from_index(i), n))
    }

    /// The values.
    pub fn values(&self) -> &[ValueInfo] {
        &self.values
    }

    /// A node of this graph.
    ///
    /// # Panics
    /// If the id is not of this graph: ids come only from the graph itself.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A value of this graph.
    ///
    /// # Panics
    /// If the id is not of this graph: ids come only from the graph itself.
    pub fn value(&self, id: ValueId) -> &ValueInfo {
        &self.values[id.index()]
    }

    /// Shape, dtype and layout of a value.
    pub fn desc(&self, id: ValueId) -> &TensorDesc {
        &self.value(id).desc
    }

    /// A value's name: its node's, with the output's number from the second on.
    pub fn value_name(&self, id: ValueId) -> String {
        let v = self.value(id);
        let node = &self.node(v.producer).name;
        if v.output == 0 {
            node.to_string()
        } else {
            format!("{node}:{}", v.output)
        }
    }

    /// The outputs with their names, in the order they were marked.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.outputs.iter().map(|(n, v)| (&**n, *v))
    }

    /// The symbols whose sizes binding must give.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The leaves with their names, in the order they were declared.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &LeafKind, ValueId)> {
        self.nodes
            .iter()
            .filter_map(|n| match (&n.op, n.outputs.first()) {
                (Op::Leaf(leaf), Some(v)) => Some((&*n.name, &leaf.kind, *v)),
                _ => None,
            })
    }

    /// Descriptions of a node's operands and results.
    pub fn io(&self, node: &Node) -> (SmallVec<[&TensorDesc; 4]>, SmallVec<[&TensorDesc; 2]>) {
        let of = |v: &ValueId| self.desc(*v);
        (
            node.inputs.iter().map(of).collect(),
            node.outputs.iter().map(of).collect(),
        )
    }

    /// For each value, the nodes that read it.
    pub fn users(&self) -> Vec<SmallVec<[NodeId; 4]>> {
        let mut users = vec![SmallVec::new(); self.values.len()];
        for (id, node) in self.iter() {
            for v in &node.inputs {
                users[v.index()].push(id);
            }
        }
        users
    }

    /// Nodes whose work is seen outside: producers of outputs, writers of states, exchanges with other devices.
    pub(crate) fn roots(&self) -> impl Iterator<Item = NodeId> {
        let outputs = self.outputs.iter().map(|(_, v)| self.value(*v).producer);
        let writers = self
            .iter()
            .filter(|(_, n)| self.writes_state(n) || n.op.is_exchange())
            .map(|(id, _)| id);
        outputs.chain(writers)
    }

    /// Does the node write a state in place?
    fn writes_state(&self, node: &Node) -> bool {
        node.op.spec().alias() == Alias::InPlace
            && node.outputs.first().is_some_and(|v| {
                let storage = self.value(self.value(*v).storage).producer;
                matches!(&self.node(storage).op, Op::Leaf(l) if l.kind == LeafKind::State)
            })
    }

    /// The nodes that the outputs and the written states need, in order.
    pub(crate) fn live_nodes(&self) -> Vec<bool> {
        topo::Dependencies::of(self).needed_by(self.roots())
    }
}
