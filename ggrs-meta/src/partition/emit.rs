//! Writes the members' graphs, node by node in the whole graph's order.

use std::sync::Arc;

use ggrs_core::ops::{Alias, Leaf, Op, SplitRule};
use ggrs_core::shard::Split;
use ggrs_core::{Graph, Node, NodeId, PartitionError, Shape, Sharding, TensorDesc, Value, ValueId};
use smallvec::SmallVec;

use super::convert::{Locals, Writer};
use super::flow::{Act, Flow, state_of};
use super::late::Reduced;
use super::member::{Local, is_absent, local_shape};
use super::result::Partition;

/// The partition that a flow describes.
pub(super) fn emit(
    graph: &Graph,
    flow: Flow,
    reduced: &Reduced,
) -> Result<Partition, PartitionError> {
    let mut writer = Writer::new(graph, flow.members);
    for (node, act) in graph.nodes().iter().zip(&flow.acts) {
        match act {
            Act::Leaf => writer.leaf(node, &flow)?,
            Act::Rule(rule) => writer.node(node, rule, &flow, reduced)?,
            Act::Largest(split) => writer.largest(node, split)?,
        }
    }
    let idle = graph.outputs().next().map_or("nothing", |(name, _)| name);
    for (name, value) in graph.outputs() {
        let lies = flow.sharding(value);
        if lies == &Sharding::Partial {
            return Err(PartitionError::PartialOutput {
                output: name.to_owned(),
            });
        }
        let reader = graph.node(graph.value(value).producer);
        let locals = writer.bring(value, lies, reader)?;
        for (member, local) in locals.iter().enumerate() {
            let tensor = writer.tensor(member, *local, graph.desc(value), lies)?;
            if let Some(tensor) = tensor {
                writer.members.output(member, name, tensor)?;
            }
        }
    }
    let Writer { members, notes, .. } = writer;
    Ok(Partition {
        graphs: members.seal(idle)?,
        shardings: flow.shardings,
        collectives: notes,
    })
}

impl Writer<'_> {
    /// A leaf: each member's shard, absent where that is empty.
    fn leaf(&mut self, node: &Node, flow: &Flow) -> Result<(), PartitionError> {
        let (Op::Leaf(leaf), Some(value)) = (&node.op, node.outputs.first()) else {
            return Ok(());
        };
        let lies = flow.sharding(*value);
        let mut locals = Vec::with_capacity(flow.members);
        for member in 0..flow.members {
            if is_absent(lies, member) {
                locals.push(Local::Absent);
                continue;
            }
            let shape = local_shape(&leaf.desc.shape, lies, member);
            let shard = Op::Leaf(Leaf {
                desc: TensorDesc::new(leaf.desc.dtype, shape),
                role: Arc::default(),
                ..leaf.clone()
            });
            let here = self.members.push_one(member, &node.name, &shard, &[])?;
            locals.push(Local::Here(here));
        }
        self.hold(*value, lies.clone(), locals.into());
        Ok(())
    }

    /// A node under its rule.
    fn node(
        &mut self,
        node: &Node,
        rule: &SplitRule,
        flow: &Flow,
        reduced: &Reduced,
    ) -> Result<(), PartitionError> {
        let mut operands: SmallVec<[Locals; 4]> = SmallVec::new();
        for (value, asked) in node.inputs.iter().zip(&rule.inputs) {
            operands.push(self.bring(*value, asked, node)?);
        }
        let mut results: SmallVec<[Vec<Local>; 2]> = node
            .outputs
            .iter()
            .map(|_| Vec::with_capacity(flow.members))
            .collect();
        let (ins, outs) = self.graph.io(node);
        let writes = node.op.spec().alias() == Alias::InPlace;
        let writes_state = writes
            && node
                .inputs
                .first()
                .is_some_and(|v| state_of(self.graph, *v).is_some());
        for member in 0..flow.members {
            let locals: SmallVec<[Local; 4]> = operands
                .iter()
                .map(|l| l.get(member).copied().unwrap_or(Local::Absent))
                .collect();
            let part = self.part(node, rule, (&ins, &outs), member, &locals)?;
            if writes_state && !matches!(part.first(), Some(Local::Absent)) {
                self.members.mark_busy(member);
            }
            for (result, local) in results.iter_mut().zip(part) {
                result.push(local);
            }
        }
        for ((value, locals), lies) in node.outputs.iter().zip(results).zip(&rule.outputs) {
            let locals: Locals = locals.into();
            let lies_after = flow.sharding(*value);
            let locals = if lies == &Sharding::Partial && lies_after == &Sharding::Replicated {
                let why = self.why(reduced.needed_by(*value), reduced.contains(*value));
                let (name, desc) = (self.graph.value_name(*value), self.graph.desc(*value));
                self.reduce(&name, desc, None, &locals, why)?
            } else {
                locals
            };
            self.hold(*value, lies_after.clone(), locals);
        }
        Ok(())
    }

    /// Why a sum is made.
    fn why(&self, needed_by: Option<NodeId>, late: bool) -> String {
        match needed_by.map(|id| self.graph.node(id)) {
            Some(node) => format!("{} needs the sum", node.op.spec().stem()),
            None if late => "an output needs the sum".to_owned(),
            None => "added up at once, as asked".to_owned(),
        }
    }

    /// What a node leaves on one member.
    fn part(
        &mut self,
        node: &Node,
        rule: &SplitRule,
        (ins, outs): (&[&TensorDesc], &[&TensorDesc]),
        member: usize,
        locals: &[Local],
    ) -> Result<SmallVec<[Local; 2]>, PartitionError> {
        if let Some(local) = idle(node, rule, member, locals)? {
            return Ok(SmallVec::from_elem(local, node.outputs.len()));
        }
        let shapes: SmallVec<[Shape; 2]> = outs
            .iter()
            .zip(&rule.outputs)
            .map(|(desc, lies)| local_shape(&desc.shape, lies, member))
            .collect();
        let mut inputs: SmallVec<[Value; 4]> = SmallVec::new();
        for ((local, desc), lies) in locals.iter().zip(ins).zip(&rule.inputs) {
            inputs.extend(self.tensor(member, *local, desc, lies)?);
        }
        let own = node.op.spec().on_member(member, rule, ins, &shapes);
        let op = own.as_ref().unwrap_or(&node.op);
        let made = self.members.push(member, &node.name, op, &inputs)?;
        for (((value, expected), whole), lies) in
            made.iter().zip(&shapes).zip(outs).zip(&rule.outputs)
        {
            let found = self.members.desc(member, *value);
            if found.is_none_or(|d| &d.shape != expected) {
                return Err(PartitionError::Share {
                    op: node.op.spec().stem(),
                    node: node.name.to_string(),
                    member,
                    whole: whole.to_string(),
                    lies: lies.to_string(),
                    expected: expected.to_string(),
                    found: found.map_or_else(String::new, |d| d.shape.to_string()),
                });
            }
        }
        Ok(made.into_iter().map(Local::Here).collect())
    }

    /// What the members hold of a value that they cut so.
    pub(super) fn parts(
        &mut self,
        value: ValueId,
        split: &Split,
        reader: &Node,
    ) -> Result<Locals, PartitionError> {
        self.bring(value, &Sharding::Split(split.clone()), reader)
    }
}

/// What a node leaves on a member that need not run it: nothing, or zeros to a sum.
fn idle(
    node: &Node,
    rule: &SplitRule,
    member: usize,
    locals: &[Local],
) -> Result<Option<Local>, PartitionError> {
    let absent = locals.iter().any(|l| matches!(l, Local::Absent));
    let partial = |s: &Sharding| s == &Sharding::Partial;
    let empty = |s: &Sharding| is_absent(s, member);
    let refuse = |what| {
        Err(PartitionError::Rule {
            op: node.op.spec().stem(),
            node: node.name.to_string(),
            member,
            what,
        })
    };
    // Without results it is a send, here of nothing.
    if rule.outputs.iter().all(empty) && (absent || !rule.outputs.is_empty()) {
        return Ok(Some(Local::Absent));
    }
    if rule.outputs.iter().any(empty) {
        return refuse("it has a part of one result and none of another");
    }
    if !rule.outputs.is_empty() && rule.outputs.iter().all(partial) {
        let mut sums = rule
            .inputs
            .iter()
            .zip(locals)
            .filter(|(s, _)| partial(s))
            .peekable();
        let nothing = sums.peek().is_some() && sums.all(|(_, l)| matches!(l, Local::Zero));
        if absent || nothing {
            return Ok(Some(Local::Zero));
        }
    }
    if absent {
        return refuse("it has to give a result and has nothing of an operand");
    }
    Ok(None)
}
