//! Where partial sums are added up: at the last moment, and among the values on the way there at the smallest.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use ggrs_core::{Graph, NodeId, Sharding, ValueId};
use smallvec::SmallVec;

use super::flow::{Act, Demand, Flow};
use crate::options::Reduction;

/// Values that are added up where they are made, each with the first node that needs the sum (none: an output).
#[derive(Debug, Default)]
pub(super) struct Reduced(HashMap<ValueId, Option<NodeId>>);

impl Reduced {
    pub(super) fn contains(&self, value: ValueId) -> bool {
        self.0.contains_key(&value)
    }

    /// Who needs the sum.
    pub(super) fn needed_by(&self, value: ValueId) -> Option<NodeId> {
        self.0.get(&value).copied().flatten()
    }
}

/// Adds the values that the flow's demands ask for; false if there is nothing to add.
///
/// A sum that somebody needs whole is made once, for all its readers. A sum of which only one cut is needed is left to
/// a reduce-scatter.
pub(super) fn add_points(
    reduced: &mut Reduced,
    graph: &Graph,
    users: &[SmallVec<[NodeId; 4]>],
    flow: &Flow,
    options: Reduction,
) -> bool {
    let mut asked: HashMap<ValueId, &Demand> = HashMap::new();
    let mut whole: Vec<&Demand> = Vec::new();
    for demand in &flow.demands {
        let other = asked.insert(demand.value, demand);
        let differs = other.is_some_and(|o| o.asked != demand.asked);
        if differs || demand.asked == Sharding::Replicated {
            whole.push(demand);
        }
    }
    let is_output: HashSet<ValueId> = graph.outputs().map(|(_, v)| v).collect();
    let mut grew = false;
    for demand in whole {
        let at = if options.shrink {
            smallest(graph, users, &is_output, flow, demand.value)
        } else {
            demand.value
        };
        if let Entry::Vacant(slot) = reduced.0.entry(at) {
            slot.insert(demand.node);
            grew = true;
        }
    }
    grew
}

/// Of a partial value and those it alone was made of, one after another, by ops that would do the same with the sum:
/// the smallest, the latest of equals.
fn smallest(
    graph: &Graph,
    users: &[SmallVec<[NodeId; 4]>],
    is_output: &HashSet<ValueId>,
    flow: &Flow,
    value: ValueId,
) -> ValueId {
    let bytes = |v: ValueId| graph.desc(v).bytes().unwrap_or(usize::MAX);
    let (mut best, mut at) = (value, value);
    while let Some(before) = source(graph, flow, at) {
        let readers = users.get(before.index()).map_or(0, |u| u.len());
        if readers != 1 || is_output.contains(&before) {
            break;
        }
        at = before;
        if bytes(at) < bytes(best) {
            best = at;
        }
    }
    best
}

/// The one partial operand of a value's node, if all its other operands are whole.
fn source(graph: &Graph, flow: &Flow, value: ValueId) -> Option<ValueId> {
    let producer = graph.value(value).producer;
    let Some(Act::Rule(rule)) = flow.acts.get(producer.index()) else {
        return None;
    };
    let mut found = None;
    for (operand, asked) in graph.node(producer).inputs.iter().zip(&rule.inputs) {
        match asked {
            Sharding::Replicated => {}
            Sharding::Partial if found.is_none() => found = Some(*operand),
            _ => return None,
        }
    }
    found
}
