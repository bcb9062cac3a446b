//! Rewriting: patches are applied by building the graph anew, so that a rewritten graph is checked like any other.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Graph, GraphBuilder, Node};
use crate::ops::Op;
use crate::{GraphError, NodeId, ValueId};

/// An operand of a new op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchValue {
    /// A value of the old graph, made before the patched node.
    Old(ValueId),
    /// An output of an earlier op of the same patch.
    New {
        /// Position in [`Patch::ops`].
        op: usize,
        /// Which output.
        output: usize,
    },
}

/// A new op.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchOp {
    /// The op.
    pub op: Op,
    /// Its operands.
    pub inputs: SmallVec<[PatchValue; 4]>,
}

/// New ops in the place of a node, and which old values they stand for from there on.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The node whose place they take.
    pub at: NodeId,
    /// The new ops, in order.
    pub ops: Vec<PatchOp>,
    /// Old value, new value.
    pub replace: Vec<(ValueId, PatchValue)>,
}

impl Graph {
    /// The graph with patches applied, built and checked anew. A node all of whose outputs are replaced is dropped.
    pub(crate) fn patched(
        &self,
        pass: &'static str,
        patches: &[Patch],
    ) -> Result<Self, GraphError> {
        self.rewritten(pass, patches, &vec![true; self.nodes.len()])
    }

    /// The graph with only the nodes marked in `keep`.
    pub(crate) fn filtered(&self, pass: &'static str, keep: &[bool]) -> Result<Self, GraphError> {
        self.rewritten(pass, &[], keep)
    }

    fn rewritten(
        &self,
        pass: &'static str,
        patches: &[Patch],
        keep: &[bool],
    ) -> Result<Self, GraphError> {
        let here = Location::caller();
        let mut builder = GraphBuilder::with_symbols(&self.symbols);
        // Old value -> new value.
        let mut map: Vec<Option<ValueId>> = vec![None; self.values.len()];
        let mut replaced = vec![false; self.values.len()];
        for (old, _) in patches.iter().flat_map(|p| &p.replace) {
            if let Some(flag) = replaced.get_mut(old.index()) {
                *flag = true;
            }
        }
        let by_node: HashMap<NodeId, &Patch> = patches.iter().rev().map(|p| (p.at, p)).collect();
        // Leaves first: a fused op may stand before the place where its weights were declared.
        let kept = || {
            self.iter()
                .filter(|(id, _)| keep.get(id.index()).copied().unwrap_or(false))
        };
        // A new op must not take the name of a node that is still to come.
        let is_dropped =
            |n: &Node| !n.outputs.is_empty() && n.outputs.iter().all(|v| replaced[v.index()]);
        let names = kept().filter(|(_, n)| !is_dropped(n));
        builder.reserve_names(names.map(|(_, n)| Arc::clone(&n.name)));
        let leaves = kept().filter(|(_, n)| matches!(n.op, Op::Leaf(_)));
        for (id, node) in leaves.chain(kept().filter(|(_, n)| !matches!(n.op, Op::Leaf(_)))) {
            let bad = |what| GraphError::BadPatch {
                pass,
                node: node.name.to_string(),
                what,
            };
            let look = |map: &[Option<ValueId>], v: ValueId| {
                map.get(v.index())
                    .copied()
                    .flatten()
                    .ok_or_else(|| bad("a value that is not made before it"))
            };
            let patch = by_node.get(&id);
            let mut made: Vec<SmallVec<[ValueId; 2]>> = Vec::new();
            let resolve =
                |map: &[Option<ValueId>], made: &[SmallVec<[ValueId; 2]>], v: PatchValue| match v {
                    PatchValue::Old(v) => look(map, v),
                    PatchValue::New { op, output } => made
                        .get(op)
                        .and_then(|outs| outs.get(output))
                        .copied()
                        .ok_or_else(|| bad("an output that it does not have")),
                };
            for new in patch.map_or(&[][..], |p| &p.ops) {
                let inputs: Vec<ValueId> = new
                    .inputs
                    .iter()
                    .map(|v| resolve(&map, &made, *v))
                    .collect::<Result<_, _>>()?;
                let name = builder.derived_name(&node.name, new.op.spec().stem());
                made.push(builder.append(new.op.clone(), &inputs, name, here)?);
            }
            if !is_dropped(node) {
                let inputs: Vec<ValueId> = node
                    .inputs
                    .iter()
                    .map(|v| look(&map, *v))
                    .collect::<Result<_, _>>()?;
                for v in &inputs {
                    builder.check_fresh(node.op.spec().stem(), *v, here)?;
                }
                let outs = builder.append(node.op.clone(), &inputs, node.name.clone(), here)?;
                for (old, new) in node.outputs.iter().zip(outs) {
                    map[old.index()] = Some(new);
                }
            }
            for (old, new) in patch.map_or(&[][..], |p| &p.replace) {
                let new = resolve(&map, &made, *new)?;
                if let Some(slot) = map.get_mut(old.index()) {
                    *slot = Some(new);
                }
            }
        }
        for (name, value) in &self.outputs {
            let lost = || GraphError::BadPatch {
                pass,
                node: name.to_string(),
                what: "the loss of an output",
            };
            let new = map.get(value.index()).copied().flatten().ok_or_else(lost)?;
            builder.output_id(name.clone(), new);
        }
        builder.seal()
    }
}

impl GraphBuilder {
    /// A name for an op that takes the place of node `old`: the same scope, its own stem.
    fn derived_name(&mut self, old: &str, stem: &str) -> Arc<str> {
        self.scope(old.rsplit_once('.').map_or("", |(scope, _)| scope));
        self.node_name(stem)
    }
}
