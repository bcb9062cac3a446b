//! What must hold of every partition, checked on the graphs themselves and not on how they were made.

use std::collections::HashMap;

use ggrs_core::ops::{Alias, Op};
use ggrs_core::{Graph, Node, PartitionError, Shape, Sharding, ValueId};

use super::flow::state_of;
use super::member::{is_absent, local_shape};
use super::result::Partition;

/// Checks a partition of `graph`: the members meet at the same collectives in the same order, no output is partial
/// sums, every shard of a leaf or output has the shape of its share, and states are written in place.
///
/// # Errors
/// The first rule broken, with the node and the member.
pub fn verify(graph: &Graph, partition: &Partition) -> Result<(), PartitionError> {
    same_exchanges(&partition.graphs)?;
    for (name, value) in graph.outputs() {
        if partition.shardings.get(value.index()) == Some(&Sharding::Partial) {
            let output = name.to_owned();
            return Err(PartitionError::PartialOutput { output });
        }
    }
    for (member, own) in partition.graphs.iter().enumerate() {
        let outputs: HashMap<&str, ValueId> = own.outputs().collect();
        let leaves: HashMap<&str, ValueId> = own.leaves().map(|(n, _, v)| (n, v)).collect();
        let shards = graph.outputs().map(|(n, v)| (n, v, &outputs));
        let all = shards.chain(graph.leaves().map(|(n, _, v)| (n, v, &leaves)));
        for (name, value, own_values) in all {
            let Some(lies) = partition.shardings.get(value.index()) else {
                continue;
            };
            if let (Some(own_value), false) = (own_values.get(name), is_absent(lies, member)) {
                let found = &own.desc(*own_value).shape;
                share(graph, value, lies, member, found)?;
            }
        }
        writes_in_place(graph, own, member)?;
    }
    Ok(())
}

/// The collectives of each member, in order.
fn same_exchanges(graphs: &[Graph]) -> Result<(), PartitionError> {
    let collective = |n: &&Node| matches!(&n.op, Op::Collective(c) if c.members > 1);
    let of = |g: &Graph| -> Vec<String> {
        let nodes = g.nodes().iter().filter(collective);
        nodes
            .map(|n| format!("{} \"{}\"", n.op.spec().stem(), n.name))
            .collect()
    };
    let Some((first, rest)) = graphs.split_first() else {
        return Ok(());
    };
    let expected = of(first);
    for (i, graph) in rest.iter().enumerate() {
        let found = of(graph);
        for at in 0..expected.len().max(found.len()) {
            let (a, b) = (expected.get(at), found.get(at));
            if a != b {
                let name = |s: Option<&String>| s.cloned().unwrap_or_else(|| "nothing".to_owned());
                return Err(PartitionError::Exchanges {
                    at,
                    member: i + 1,
                    expected: name(a),
                    found: name(b),
                });
            }
        }
    }
    Ok(())
}

fn share(
    graph: &Graph,
    value: ValueId,
    lies: &Sharding,
    member: usize,
    found: &Shape,
) -> Result<(), PartitionError> {
    let whole = graph.desc(value);
    let expected = local_shape(&whole.shape, lies, member);
    if &expected == found {
        return Ok(());
    }
    let node = graph.node(graph.value(value).producer);
    Err(PartitionError::Share {
        op: node.op.spec().stem(),
        node: node.name.to_string(),
        member,
        whole: whole.to_string(),
        lies: lies.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

/// A node that writes a state of the whole graph writes that state in the member's.
fn writes_in_place(graph: &Graph, own: &Graph, member: usize) -> Result<(), PartitionError> {
    let writes = |n: &&Node| n.op.spec().alias() == Alias::InPlace;
    let state = |g: &Graph, n: &Node| {
        let written = n.inputs.first().and_then(|v| state_of(g, *v));
        written.map(ToString::to_string)
    };
    let nodes = graph.nodes().iter().filter(writes);
    let states: HashMap<&str, Option<String>> =
        nodes.map(|n| (&*n.name, state(graph, n))).collect();
    for node in own.nodes().iter().filter(writes) {
        let Some(Some(expected)) = states.get(&*node.name) else {
            continue;
        };
        if state(own, node).as_ref() != Some(expected) {
            return Err(PartitionError::LostWrite {
                member,
                node: node.name.to_string(),
                state: expected.clone(),
            });
        }
    }
    Ok(())
}
