//! A problem several times over in one graph, each time over weights and states of its own: what runs in a row finds
//! nothing of what it reads in the caches.

use std::collections::HashMap;
use std::sync::Arc;

use ggrs_core::ops::{LeafKind, Op};
use ggrs_core::{GraphBuilder, GraphError, Value, ValueId};
use ggrs_tests::problem::{LeafData, Posed};

/// Sets of inputs: neighbours have different ones, so that no kernel does for one what the next finds done.
const INPUT_SETS: usize = 2;

/// The same problem `copies` times. Inputs are shared by every other, answers are not asked for.
///
/// # Errors
/// None that the problem's own graph does not have.
pub(crate) fn rotated(posed: &Posed, copies: usize) -> Result<Posed, GraphError> {
    let mut graph = GraphBuilder::new();
    let mut leaves: Vec<LeafData> = Vec::new();
    let mut sets: [HashMap<ValueId, Value>; INPUT_SETS] = Default::default();
    for copy in 0..copies.max(1) {
        let [shared, ..] = &mut sets;
        let mut made: HashMap<ValueId, Value> = shared.clone();
        for node in posed.graph.nodes() {
            let is_shared = match &node.op {
                Op::Leaf(leaf) => !matches!(leaf.kind, LeafKind::Weight | LeafKind::State),
                _ => false,
            };
            if is_shared && copy >= INPUT_SETS {
                continue;
            }
            let name = format!("{}#{copy}", node.name);
            let inputs: Vec<Value> = node
                .inputs
                .iter()
                .filter_map(|v| made.get(v).copied())
                .collect();
            let outputs = graph.push_named(&name, node.op.clone(), &inputs)?;
            made.extend(node.outputs.iter().copied().zip(outputs));
            if let (Op::Leaf(_), Some(data)) = (&node.op, data(posed, &node.name)) {
                leaves.push(LeafData {
                    name: name.clone(),
                    role: data.role,
                    bytes: Arc::clone(&data.bytes),
                });
            }
            if is_shared {
                shared.extend(
                    node.outputs
                        .iter()
                        .filter_map(|v| Some((*v, *made.get(v)?))),
                );
            }
        }
        for (name, value) in posed.graph.outputs() {
            if let Some(value) = made.get(&value) {
                graph.output(&format!("{name}#{copy}"), *value)?;
            }
        }
        sets.rotate_left(1);
    }
    Ok(Posed {
        name: format!("{} x {copies}", posed.name),
        stem: posed.stem,
        graph: graph.seal()?,
        leaves,
        answers: Vec::new(),
        bad_data: Vec::new(),
    })
}

fn data<'a>(posed: &'a Posed, name: &str) -> Option<&'a LeafData> {
    posed.leaves.iter().find(|leaf| leaf.name == name)
}
