//! A plan's memory on one device: bound weights and states with their generations, the arena, the constants. What the
//! executables of all devices have in common.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Bindings, Buffer, BufferSlice, BufferUse, RouteRequest, WeightForm};
use crate::ops::{LeafKind, Op};
use crate::plan::{Plan, Region, Step};
use crate::{BindError, DeviceError, ExecError, ValueId};

/// A plan with its memory.
pub struct BoundMemory {
    /// The device, for messages.
    device: String,
    plan: Arc<Plan>,
    /// Weights, then states, each with its generation when it was bound.
    bound: Vec<(Arc<dyn Buffer>, u64)>,
    arena: Arc<dyn Buffer>,
    constants: Arc<dyn Buffer>,
    /// Where each constant begins.
    constant_offsets: Vec<u64>,
}

impl BoundMemory {
    /// Binds weights and states, and allocates the arena and the constants with `alloc`. What the constants hold is for
    /// the device to write: see [`BoundMemory::constants`].
    ///
    /// # Errors
    /// A weight or state without a fitting buffer, no memory.
    pub fn new(
        device: &str,
        plan: &Arc<Plan>,
        bindings: &Bindings,
        alignment: u64,
        alloc: impl Fn(u64, BufferUse) -> Result<Arc<dyn Buffer>, DeviceError>,
    ) -> Result<Self, BindError> {
        let with_generation = |b: Arc<dyn Buffer>| {
            let now = b.generation().now();
            (b, now)
        };
        let bound = bindings.resolve(plan)?;
        let mut constant_offsets = Vec::with_capacity(plan.constants.len());
        let mut end = 0u64;
        for constant in &plan.constants {
            constant_offsets.push(end);
            end = end
                .saturating_add(constant.bytes)
                .checked_next_multiple_of(alignment.max(1))
                .unwrap_or(u64::MAX);
        }
        Ok(Self {
            device: device.to_owned(),
            plan: Arc::clone(plan),
            bound: bound.into_iter().map(with_generation).collect(),
            arena: alloc(plan.arenas.iter().sum(), BufferUse::Arena)?,
            constants: alloc(end, BufferUse::Constants)?,
            constant_offsets,
        })
    }

    /// The plan.
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The buffers of weights and states.
    pub fn bound(&self) -> impl Iterator<Item = &Arc<dyn Buffer>> {
        self.bound.iter().map(|(buffer, _)| buffer)
    }

    /// Where each constant's bytes go, and the bytes.
    pub fn constants(&self) -> impl Iterator<Item = (BufferSlice, &[u8])> {
        let slots = self.plan.constants.iter().zip(&self.constant_offsets);
        slots.filter_map(|(slot, offset)| {
            let Op::Leaf(leaf) = &self.plan.graph.node(slot.node).op else {
                return None;
            };
            let LeafKind::Constant(data) = &leaf.kind else {
                return None;
            };
            let slice = BufferSlice {
                buffer: Arc::clone(&self.constants),
                offset: *offset,
                bytes: data.0.len() as u64,
            };
            Some((slice, &*data.0))
        })
    }

    /// The buffer of a region, and where the region begins in it.
    pub fn buffer(&self, region: Region) -> Option<(&Arc<dyn Buffer>, u64)> {
        let bound = |i: usize| self.bound.get(i).map(|(b, _)| (b, 0));
        match region {
            Region::Arena(_) => Some((&self.arena, 0)),
            Region::Weight(i) => bound(i),
            Region::State(i) => bound(self.plan.weights.len().checked_add(i)?),
            Region::Constant(i) => {
                let offset = self.constant_offsets.get(i)?;
                Some((&self.constants, *offset))
            }
        }
    }

    /// The bytes of a contiguous value; `None` if it is strided or not of this plan.
    pub fn slice(&self, value: ValueId) -> Option<BufferSlice> {
        let desc = &self.plan.graph.values().get(value.index())?.desc;
        let place = self.plan.place(value);
        if !desc.is_contiguous() {
            return None;
        }
        let (buffer, start) = self.buffer(place.region)?;
        let n_bytes = desc.bytes()? as u64;
        // An empty view may begin behind the end.
        let skip = if n_bytes == 0 {
            0
        } else {
            desc.elem_bytes(desc.layout.offset())? as u64
        };
        let offset = start.checked_add(place.offset)?.checked_add(skip)?;
        let whole = BufferSlice::whole(Arc::clone(buffer));
        whole.range(&self.device, offset, n_bytes).ok()
    }

    /// Calls `ask` with what the planner asked the device for this step.
    pub fn with_request<R>(&self, step: &Step, ask: impl FnOnce(&RouteRequest<'_>) -> R) -> R {
        let node = self.plan.graph.node(step.node);
        let (inputs, outputs) = self.plan.graph.io(node);
        let forms: SmallVec<[Option<WeightForm>; 4]> = node
            .inputs
            .iter()
            .map(|v| match self.plan.place(*v).region {
                Region::Weight(i) => self.plan.weights.get(i).map(|w| w.form),
                _ => None,
            })
            .collect();
        ask(&RouteRequest {
            op: &node.op,
            inputs: &inputs,
            forms: &forms,
            outputs: &outputs,
            precision: self.plan.precision,
        })
    }

    /// Every buffer must be of the generation that was bound.
    ///
    /// # Errors
    /// A weight or state that has been released since.
    pub fn check_generations(&self) -> Result<(), ExecError> {
        let stale = |(buffer, bound): &(Arc<dyn Buffer>, u64)| buffer.generation().now() != *bound;
        let Some(at) = self.bound.iter().position(stale) else {
            return Ok(());
        };
        let weights = self.plan.weights.iter().map(|w| &w.name);
        let mut names = weights.chain(self.plan.states.iter().map(|s| &s.name));
        Err(ExecError::StaleBinding {
            name: names.nth(at).cloned().unwrap_or_default(),
        })
    }

    /// The error of a step's kernel that the device does not have: a plan made for another device.
    pub fn foreign_plan(&self, step: &Step) -> DeviceError {
        DeviceError::Setting {
            device: self.device.clone(),
            setting: "plan",
            value: step.route.kernel.to_string(),
            possible: "a plan that was made for this device, as it is set now".to_owned(),
        }
    }

    /// The error of steps that are past the end or among which is an exchange.
    pub fn not_a_run(&self, steps: &Range<usize>) -> ExecError {
        ExecError::Steps {
            device: self.device.clone(),
            steps: steps.clone(),
            n_steps: self.plan.steps.len(),
        }
    }
}
