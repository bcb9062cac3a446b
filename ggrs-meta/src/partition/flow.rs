//! How every value lies and what every node asks of its operands: the ops' split rules, applied in order. It builds
//! nothing.

use std::sync::Arc;

use ggrs_core::ops::{Alias, LeafKind, Op, SplitOperand, SplitRule};
use ggrs_core::{Dim, Graph, Node, NodeId, PartitionError, Sharding, Split, TensorDesc, ValueId};
use smallvec::SmallVec;

use super::expert_rows::ExpertRows;
use super::late::Reduced;
use super::top_k;
use crate::options::Reduction;
use crate::split_plan::SplitPlan;

/// What a node does on the members.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A leaf: its shard.
    Leaf,
    /// The op itself on operands that lie as the rule asks.
    Rule(SplitRule),
    /// The largest of an axis that is cut: candidates of every member, then the largest of those.
    Largest(Split),
}

/// An operand that is partial sums where its reader needs something else.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) value: ValueId,
    /// As what it is needed.
    pub(super) asked: Sharding,
    /// By whom; none if it is an output.
    pub(super) node: Option<NodeId>,
}

/// How a graph lies over its members.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) members: usize,
    /// For each value.
    pub(super) shardings: Vec<Sharding>,
    /// For each node.
    pub(super) acts: Vec<Act>,
    pub(super) demands: Vec<Demand>,
}

impl Flow {
    /// Applies the rules. Values in `reduced` are added up where they are made.
    pub(super) fn of(
        graph: &Graph,
        plan: &SplitPlan,
        options: Reduction,
        reduced: &Reduced,
    ) -> Result<Self, PartitionError> {
        let mut flow = Self {
            members: plan.members(),
            shardings: vec![Sharding::Replicated; graph.values().len()],
            ..Self::default()
        };
        let mut rows = ExpertRows::default();
        for (id, node) in graph.iter() {
            let act = flow.act(graph, node, options, &rows)?;
            match &act {
                Act::Leaf => flow.lay(node, &[leaf_sharding(node, plan)]),
                Act::Largest(_) => {}
                Act::Rule(rule) => {
                    flow.check(graph, node, rule)?;
                    flow.demand(node, id, rule);
                    rows.note(graph, node, rule);
                    let outputs = node.outputs.iter().zip(&rule.outputs);
                    let lies = outputs.map(|(value, sharding)| match sharding {
                        Sharding::Partial if !options.late || reduced.contains(*value) => {
                            Sharding::Replicated
                        }
                        other => other.clone(),
                    });
                    let lies: SmallVec<[Sharding; 2]> = lies.collect();
                    flow.lay(node, &lies);
                }
            }
            flow.acts.push(act);
        }
        for (_, value) in graph.outputs() {
            if flow.sharding(value) == &Sharding::Partial {
                let asked = Sharding::Replicated;
                flow.demands.push(Demand {
                    value,
                    asked,
                    node: None,
                });
            }
        }
        Ok(flow)
    }

    /// How a value lies.
    pub(super) fn sharding(&self, value: ValueId) -> &Sharding {
        static WHOLE: Sharding = Sharding::Replicated;
        self.shardings.get(value.index()).unwrap_or(&WHOLE)
    }

    fn lay(&mut self, node: &Node, lies: &[Sharding]) {
        for (value, sharding) in node.outputs.iter().zip(lies) {
            if let Some(slot) = self.shardings.get_mut(value.index()) {
                slot.clone_from(sharding);
            }
        }
    }

    fn act(
        &self,
        graph: &Graph,
        node: &Node,
        options: Reduction,
        rows: &ExpertRows,
    ) -> Result<Act, PartitionError> {
        let whole = |v: &ValueId| match self.sharding(*v) {
            Sharding::Partial => Sharding::Replicated,
            other => other.clone(),
        };
        match &node.op {
            Op::Leaf(_) => return Ok(Act::Leaf),
            // A send takes the value as it lies; nobody could add up partial sums on the other side.
            Op::Send(_) => return Ok(Act::Rule(SplitRule::new(node.inputs.iter().map(whole), []))),
            Op::Collective(c) if c.members > 1 => {
                return Err(PartitionError::Nested {
                    node: node.name.to_string(),
                    members: c.members,
                });
            }
            _ => {}
        }
        let (ins, outs) = graph.io(node);
        if let Some(split) = top_k::cut_rows(
            &node.op,
            &ins,
            node.inputs.first().map(|v| self.sharding(*v)),
        ) {
            return Ok(if top_k::is_cheaper(&node.op, &ins, split) {
                Act::Largest(split.clone())
            } else {
                Act::Rule(SplitRule::replicated(ins.len(), outs.len()))
            });
        }
        if let Some(rule) = rows.rule(node, |v| self.sharding(v)) {
            return Ok(Act::Rule(rule));
        }
        let partial = |v: &&ValueId| self.sharding(**v) == &Sharding::Partial;
        let mut partials = node.inputs.iter().filter(partial);
        let first = partials.next();
        let merges = first.is_some() && partials.any(|v| Some(v) != first);
        let lies: SmallVec<[Sharding; 4]> = node
            .inputs
            .iter()
            .map(|v| {
                let keep =
                    (options.merge || !merges) && rows.may_stay(node, *v, |v| self.sharding(v));
                if keep {
                    self.sharding(*v).clone()
                } else {
                    whole(v)
                }
            })
            .collect();
        let operands: SmallVec<[SplitOperand<'_>; 4]> = ins
            .iter()
            .zip(&lies)
            .map(|(desc, sharding)| SplitOperand { desc, sharding })
            .collect();
        Ok(Act::Rule(node.op.spec().split(&operands, &outs)))
    }

    /// A rule must speak of the node's operands and results, and leave states as they lie.
    fn check(&self, graph: &Graph, node: &Node, rule: &SplitRule) -> Result<(), PartitionError> {
        let refuse = |what| PartitionError::Rule {
            op: node.op.spec().stem(),
            node: node.name.to_string(),
            member: 0,
            what,
        };
        if rule.inputs.len() != node.inputs.len() || rule.outputs.len() != node.outputs.len() {
            return Err(refuse("it does not name every operand and result"));
        }
        let (ins, outs) = graph.io(node);
        let all = ins
            .iter()
            .zip(&rule.inputs)
            .chain(outs.iter().zip(&rule.outputs));
        for (desc, sharding) in all {
            if let Sharding::Split(split) = sharding {
                self.fits(desc, split).map_err(refuse)?;
            }
        }
        self.check_state(graph, node, rule)
    }

    fn fits(&self, desc: &TensorDesc, split: &Split) -> Result<(), &'static str> {
        let size = desc.shape.dim(split.axis()).and_then(Dim::fixed);
        let end = split.parts().iter().flatten().map(|r| r.end).max();
        if split.members() != self.members {
            return Err("a cut has another number of members");
        }
        if size != Some(end.unwrap_or(0)) {
            return Err("a cut does not cover its axis");
        }
        Ok(())
    }

    fn check_state(
        &self,
        graph: &Graph,
        node: &Node,
        rule: &SplitRule,
    ) -> Result<(), PartitionError> {
        let (Alias::InPlace, Some(written)) = (node.op.spec().alias(), node.inputs.first()) else {
            return Ok(());
        };
        let Some(state) = state_of(graph, *written) else {
            return Ok(());
        };
        let lies = self.sharding(*written);
        let asked = rule.inputs.first().filter(|asked| *asked != lies);
        let asked = asked.or(rule.outputs.first().filter(|after| *after != lies));
        asked.map_or(Ok(()), |asked| {
            Err(PartitionError::State {
                op: node.op.spec().stem(),
                node: node.name.to_string(),
                state: state.to_string(),
                lies: lies.to_string(),
                asked: asked.to_string(),
            })
        })
    }

    /// Notes the operands that are partial sums and must not be.
    fn demand(&mut self, node: &Node, id: NodeId, rule: &SplitRule) {
        for (value, asked) in node.inputs.iter().zip(&rule.inputs) {
            if self.sharding(*value) == &Sharding::Partial && asked != &Sharding::Partial {
                self.demands.push(Demand {
                    value: *value,
                    asked: asked.clone(),
                    node: Some(id),
                });
            }
        }
    }
}

/// How a leaf lies. Constants are part of every member's graph.
fn leaf_sharding(node: &Node, plan: &SplitPlan) -> Sharding {
    match &node.op {
        Op::Leaf(leaf) if !matches!(leaf.kind, LeafKind::Constant(_)) => plan.sharding(&node.name),
        _ => Sharding::Replicated,
    }
}

/// The state whose storage a value reads.
pub(super) fn state_of(graph: &Graph, value: ValueId) -> Option<&Arc<str>> {
    let storage = graph.value(graph.value(value).storage);
    let node = graph.node(storage.producer);
    match &node.op {
        Op::Leaf(leaf) if leaf.kind == LeafKind::State => Some(&node.name),
        _ => None,
    }
}
