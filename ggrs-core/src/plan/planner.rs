//! The planner: passes, then for one device weight forms, routes, liveness, offsets.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::arena::{self, Request};
use super::liveness::{Live, liveness};
use super::slots::{self, DEVICE, storage_bytes};
use super::{Plan, PlanParts, Step};
use crate::device::{Device, FusionRequest, Precision, Route, RouteRequest, WeightForm};
use crate::ops::{Alias, Op};
use crate::passes::PassSet;
use crate::{Graph, NodeId, PlanError, ValueId};

/// What a plan may do to the graph, and how exact it computes.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Exact or fast.
    pub precision: Precision,
    /// The passes to run.
    pub passes: PassSet,
    /// How collectives run that the device itself has no kernel for: set by a device made of several, which moves
    /// their data between runs of steps.
    pub collectives: Option<Route>,
}

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
    let parts = device.plan(&Arc::new(graph), options)?;
    Ok(Plan(PlanParts { passes, ..parts }))
}

/// Plans a graph for a device that is not made of others: what [`Device::plan`] does unless a device knows better.
///
/// # Errors
/// Those of [`plan`].
pub fn plan_one<D: Device + ?Sized>(
    graph: &Arc<Graph>,
    device: &D,
    options: &PlanOptions,
) -> Result<PlanParts, PlanError> {
    let name = device.name().to_string();
    let weights = slots::weight_slots(graph, device, options.precision);
    let forms: HashMap<ValueId, WeightForm> = weights.iter().map(|w| (w.value, w.form)).collect();
    let runs: Vec<NodeId> = graph
        .iter()
        .filter(|(_, n)| !matches!(n.op, Op::Leaf(_)) && n.op.spec().alias() != Alias::View)
        .map(|(id, _)| id)
        .collect();
    let mut routes = runs
        .iter()
        .map(|id| route(graph, *id, device, &name, &forms, options))
        .collect::<Result<Vec<_>, _>>()?;
    let fusions = device.fusions(&FusionRequest {
        graph,
        nodes: &runs,
        forms: &forms,
        precision: options.precision,
    });
    for fusion in &fusions {
        let first = fusion.steps.start;
        for (step, (route, _)) in routes
            .iter_mut()
            .enumerate()
            .take(fusion.steps.end)
            .skip(first)
        {
            *route = if step == first {
                fusion.route.clone()
            } else {
                Route::fused(first)
            };
        }
    }

    let limits = device.limits();
    let lives = liveness(graph, &runs, &fusions);
    let (owners, mut requests): (Vec<ValueId>, Vec<Request>) = lives
        .iter()
        .enumerate()
        .filter_map(|(i, live)| {
            let value = ValueId::from_index(i);
            let bytes = storage_bytes(graph.desc(value));
            live.map(|live| (value, Request { live, bytes }))
        })
        .unzip();
    let n_values = requests.len();
    requests.extend(routes.iter().enumerate().map(|(step, (route, _))| Request {
        live: Live::at(step).through(&fusions),
        bytes: route.scratch_bytes,
    }));
    let (offsets, arena) = arena::assign(&requests, limits.alignment_bytes.max(1));
    if arena > limits.max_buffer_bytes {
        let max = limits.max_buffer_bytes;
        return Err(too_large(graph, name, arena, max, &owners));
    }

    let states = slots::state_slots(graph);
    let constants = slots::constant_slots(graph);
    let in_arena = owners.into_iter().zip(&offsets).zip(&requests);
    let in_arena = in_arena.map(|((value, offset), request)| (value, *offset, *request));
    let places = slots::places(graph, in_arena, &weights, &states, &constants);
    let scratch = offsets.get(n_values..).unwrap_or_default();
    let steps = runs
        .iter()
        .zip(routes)
        .zip(scratch)
        .map(|((node, (route, is_exchange)), offset)| Step {
            node: *node,
            device: DEVICE,
            route,
            is_exchange,
            scratch_offset: *offset,
        })
        .collect();

    Ok(PlanParts {
        graph: Arc::clone(graph),
        precision: options.precision,
        devices: vec![name],
        steps,
        places,
        arenas: vec![arena],
        weights,
        states,
        inputs: slots::input_slots(graph),
        outputs: slots::output_slots(graph),
        constants,
        passes: Vec::new(),
        members: Vec::new(),
        shardings: Vec::new(),
        collectives: Vec::new(),
    })
}

/// The kernel of a node, and whether the node is an exchange that runs outside of the device.
fn route<D: Device + ?Sized>(
    graph: &Graph,
    id: NodeId,
    device: &D,
    name: &str,
    forms: &HashMap<ValueId, WeightForm>,
    options: &PlanOptions,
) -> Result<(Route, bool), PlanError> {
    let node = graph.node(id);
    if matches!(node.op, Op::Send(_) | Op::Receive(_)) {
        return Ok((
            Route::outside(node.op.spec().stem(), "copied between devices"),
            true,
        ));
    }
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
    match (device.route(&request), &options.collectives) {
        (Ok(route), _) => Ok((route, false)),
        (Err(_), Some(route)) if node.op.is_exchange() => Ok((route.clone(), true)),
        (Err(source), _) => Err(PlanError::Unsupported {
            op: node.op.spec().stem(),
            node: node.name.to_string(),
            device: name.to_owned(),
            operands: inputs.iter().map(ToString::to_string).collect(),
            source,
        }),
    }
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
