//! The planner for one device: passes, weight forms, routes, liveness, offsets.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::arena::{self, Request};
use super::liveness::{Live, liveness};
use super::{ConstantSlot, IoSlot, Place, Plan, PlanParts, Region, StateSlot, Step, WeightSlot};
use crate::device::{Device, Precision, RouteRequest, WeightForm, WeightUse};
use crate::ops::{Alias, LeafKind, Op};
use crate::passes::PassSet;
use crate::{DeviceIdx, Graph, NodeId, PlanError, TensorDesc, ValueId};

/// What a plan may do to the graph, and how exact it computes.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Exact or fast.
    pub precision: Precision,
    /// The passes to run.
    pub passes: PassSet,
}

const DEVICE: DeviceIdx = DeviceIdx(0);

/// Plans a bound graph for one device.
///
/// # Errors
/// A symbol left open, a pass that breaks the graph, an op without a kernel (with every candidate's reason), working
/// memory beyond the device.
pub fn plan(graph: &Graph, device: &dyn Device, options: &PlanOptions) -> Result<Plan, PlanError> {
    if !graph.symbols().is_empty() {
        return Err(PlanError::Symbolic {
            symbols: graph.symbols().iter().map(|s| s.name).collect(),
        });
    }
    let (graph, passes) = options.passes.run(graph)?;
    let name = device.info().name.to_string();

    let weights = weight_slots(&graph, device, options.precision);
    let forms: HashMap<ValueId, WeightForm> = weights.iter().map(|w| (w.value, w.form)).collect();

    let runs: Vec<NodeId> = graph
        .iter()
        .filter(|(_, n)| !matches!(n.op, Op::Leaf(_)) && n.op.spec().alias() != Alias::View)
        .map(|(id, _)| id)
        .collect();
    let mut routes = Vec::with_capacity(runs.len());
    for id in &runs {
        let node = graph.node(*id);
        let (inputs, outputs) = graph.io(node);
        let forms: SmallVec<[Option<WeightForm>; 4]> = node
            .inputs
            .iter()
            .map(|v| forms.get(&graph.value(*v).storage).copied())
            .collect();
        let request = RouteRequest {
            op: &node.op,
            inputs: &inputs,
            forms: &forms,
            outputs: &outputs,
            precision: options.precision,
        };
        routes.push(
            device
                .route(&request)
                .map_err(|source| PlanError::Unsupported {
                    op: node.op.spec().stem(),
                    node: node.name.to_string(),
                    device: name.clone(),
                    operands: inputs.iter().map(ToString::to_string).collect(),
                    source,
                })?,
        );
    }

    let limits = device.limits();
    let lives = liveness(&graph, &runs);
    let mut owners: Vec<ValueId> = Vec::new();
    let mut requests: Vec<Request> = Vec::new();
    for (i, live) in lives.iter().enumerate() {
        if let Some(live) = live {
            let value = ValueId::from_index(i);
            owners.push(value);
            requests.push(Request {
                live: *live,
                bytes: storage_bytes(graph.desc(value)),
            });
        }
    }
    let n_values = requests.len();
    for (step, route) in routes.iter().enumerate() {
        requests.push(Request {
            live: Live {
                first: step,
                last: step,
            },
            bytes: route.scratch_bytes,
        });
    }
    let (offsets, arena) = arena::assign(&requests, limits.alignment_bytes.max(1));
    if arena > limits.max_buffer_bytes {
        return Err(too_large(
            &graph,
            name,
            arena,
            limits.max_buffer_bytes,
            &owners,
        ));
    }

    let leaf = |wanted: fn(&LeafKind) -> bool| graph.leaves().filter(move |(_, k, _)| wanted(k));
    let states: Vec<StateSlot> = leaf(|k| *k == LeafKind::State)
        .map(|(name, _, value)| {
            let desc = graph.desc(value).clone();
            StateSlot {
                name: name.to_owned(),
                value,
                bytes: storage_bytes(&desc),
                desc,
                device: DEVICE,
            }
        })
        .collect();
    let constants: Vec<ConstantSlot> = leaf(|k| matches!(k, LeafKind::Constant(_)))
        .map(|(_, _, value)| ConstantSlot {
            value,
            node: graph.value(value).producer,
            bytes: storage_bytes(graph.desc(value)),
        })
        .collect();
    let io = |name: &str, value: ValueId| IoSlot {
        name: name.to_owned(),
        value,
        desc: graph.desc(value).clone(),
    };
    let inputs = leaf(|k| *k == LeafKind::Input)
        .map(|(n, _, v)| io(n, v))
        .collect();
    let outputs = graph.outputs().map(|(n, v)| io(n, v)).collect();

    // Every storage gets its place, every view its storage's.
    let mut storages: HashMap<ValueId, Place> = HashMap::new();
    for ((value, offset), request) in owners.iter().zip(&offsets).zip(&requests) {
        storages.insert(
            *value,
            Place {
                region: Region::Arena(DEVICE),
                offset: *offset,
                bytes: request.bytes,
            },
        );
    }
    let outside = weights
        .iter()
        .enumerate()
        .map(|(i, w)| (w.value, Region::Weight(i), w.bytes));
    let outside = outside.chain(
        states
            .iter()
            .enumerate()
            .map(|(i, s)| (s.value, Region::State(i), s.bytes)),
    );
    let outside = outside.chain(
        constants
            .iter()
            .enumerate()
            .map(|(i, c)| (c.value, Region::Constant(i), c.bytes)),
    );
    storages.extend(outside.map(|(value, region, bytes)| {
        (
            value,
            Place {
                region,
                offset: 0,
                bytes,
            },
        )
    }));
    let nowhere = Place {
        region: Region::Arena(DEVICE),
        offset: 0,
        bytes: 0,
    };
    let places = graph
        .values()
        .iter()
        .map(|v| storages.get(&v.storage).copied().unwrap_or(nowhere))
        .collect();

    let scratch = offsets.get(n_values..).unwrap_or_default();
    let steps = runs
        .iter()
        .zip(routes)
        .zip(scratch)
        .map(|((node, route), offset)| Step {
            node: *node,
            device: DEVICE,
            route,
            scratch_offset: *offset,
        })
        .collect();

    Ok(Plan(PlanParts {
        graph: Arc::new(graph),
        precision: options.precision,
        devices: vec![name],
        steps,
        places,
        arenas: vec![arena],
        weights,
        states,
        inputs,
        outputs,
        constants,
        passes,
    }))
}

fn storage_bytes(desc: &TensorDesc) -> u64 {
    desc.bytes().unwrap_or(0) as u64
}

/// The form of each weight. A weight that several ops read, or that is read through a view, must suit all of them:
/// the device is asked once with all its uses.
fn weight_slots(graph: &Graph, device: &dyn Device, precision: Precision) -> Vec<WeightSlot> {
    let mut uses: HashMap<ValueId, Vec<WeightUse<'_>>> = HashMap::new();
    for node in graph.nodes() {
        for (operand, v) in node.inputs.iter().enumerate() {
            uses.entry(graph.value(*v).storage)
                .or_default()
                .push(WeightUse {
                    op: &node.op,
                    operand,
                });
        }
    }
    graph
        .leaves()
        .filter(|(_, kind, _)| **kind == LeafKind::Weight)
        .map(|(name, _, value)| {
            let desc = graph.desc(value).clone();
            // What is read back as an output must be as in the file.
            let is_output = graph
                .outputs()
                .any(|(_, v)| graph.value(v).storage == value);
            let uses = uses.get(&value).map_or(&[][..], Vec::as_slice);
            let form = if is_output {
                WeightForm::Native
            } else {
                device.weight_form(&desc, uses, precision)
            };
            let bytes = device.weight_bytes(&desc, form);
            WeightSlot {
                name: name.to_owned(),
                value,
                desc,
                form,
                bytes,
                device: DEVICE,
            }
        })
        .collect()
}

fn too_large(graph: &Graph, device: String, need: u64, have: u64, owners: &[ValueId]) -> PlanError {
    let mut sizes: Vec<(u64, ValueId)> = owners
        .iter()
        .map(|v| (storage_bytes(graph.desc(*v)), *v))
        .collect();
    sizes.sort_by_key(|(bytes, v)| (std::cmp::Reverse(*bytes), *v));
    let largest = sizes
        .iter()
        .take(5)
        .map(|(bytes, v)| format!("{} {bytes}", graph.value_name(*v)))
        .collect();
    PlanError::Arena {
        device,
        need,
        have,
        largest,
    }
}
