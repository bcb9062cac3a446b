//! What a partition is, and how it is made: decide how every value lies, delay the sums, write the members' graphs.

use ggrs_core::ops::CollectiveKind;
use ggrs_core::{Graph, PlanError, Sharding};

use super::emit::emit;
use super::flow::Flow;
use super::late;
use super::verify::verify;
use crate::options::MetaOptions;
use crate::split_plan::SplitPlan;

/// One graph per member, and how the whole graph's values lie over them.
///
/// A member's graph has the whole graph's names for leaves, outputs and the nodes it runs, and the tags of its sends
/// and receives. What a member holds nothing of is absent there. A member with nothing at all to do gets a graph with
/// one output without elements.
#[derive(Clone, Debug)]
pub struct Partition {
    /// For each member its graph.
    pub graphs: Vec<Graph>,
    /// For each value of the whole graph how it lies; an output is never partial sums.
    pub shardings: Vec<Sharding>,
    /// The communication, in order; the same on every member.
    pub collectives: Vec<CollectiveNote>,
}

/// A collective and why it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectiveNote {
    /// What is exchanged.
    pub kind: CollectiveKind,
    /// Bytes of the whole value as it travels.
    pub bytes: u64,
    /// The collective's node in the members' graphs.
    pub node: String,
    /// Why, in words: who asks for it.
    pub why: String,
}

/// Splits a bound graph over the plan's members.
///
/// # Errors
/// A state that a rule would lay out anew, a value that cannot be gathered, a graph that is already a member's, a rule
/// that contradicts itself.
pub fn partition(
    graph: &Graph,
    plan: &SplitPlan,
    options: &MetaOptions,
) -> Result<Partition, PlanError> {
    if !graph.symbols().is_empty() {
        return Err(PlanError::Symbolic {
            symbols: graph.symbols().iter().map(|s| s.name).collect(),
        });
    }
    if plan.members() == 1 {
        return Ok(alone(graph));
    }
    let users = graph.users();
    let mut reduced = late::Reduced::default();
    let flow = loop {
        let flow = Flow::of(graph, plan, options.reduction, &reduced)?;
        if !late::add_points(&mut reduced, graph, &users, &flow, options.reduction) {
            break flow;
        }
    };
    let partition = emit(graph, flow, &reduced)?;
    verify(graph, &partition)?;
    Ok(partition)
}

/// One member does everything.
fn alone(graph: &Graph) -> Partition {
    Partition {
        graphs: vec![graph.clone()],
        shardings: vec![Sharding::Replicated; graph.values().len()],
        collectives: Vec::new(),
    }
}
