//! A compiled plan of a fake device: the CPU's executable, with a watch over what its steps read and write.

use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use ggrs_core::device::{Bindings, Buffer, BufferSlice, CaptureState, Executable};
use ggrs_core::ops::Op;
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{Plan, PlanOptions, Region, plan};
use ggrs_core::{BindError, DType, DeviceError, ExecError, ValueId};

use super::access::{Access, accesses};
use super::account::Hold;
use super::audit::Finding;
use super::buffer::FakeBuffer;
use super::device::FakeDevice;
use super::fault::Point;
use super::state::DeviceState;
use super::written::{Writer, Written};
use crate::sentinel::poison;

/// A compiled plan.
pub(super) struct FakeExecutable {
    owner: Arc<DeviceState>,
    /// The device's life in which it was made.
    life: u64,
    /// As the fake device routed it; the inner executable's plan has the CPU's kernel names.
    plan: Arc<Plan>,
    inner: Box<dyn Executable>,
    /// Weights, then states, each with its generation when it was bound.
    bound: Vec<(Arc<dyn Buffer>, u64)>,
    /// The arena, if a value shows it.
    arena: Option<Arc<FakeBuffer>>,
    constants: Option<Arc<FakeBuffer>>,
    accesses: Vec<Access>,
    /// What it holds that no buffer does.
    _holds: Vec<Hold>,
}

/// Bytes that a device needs for a plan's constants.
fn constant_bytes(plan: &Plan, alignment: u64) -> u64 {
    let aligned = plan
        .constants
        .iter()
        .map(|c| c.bytes.next_multiple_of(alignment));
    aligned.sum()
}

/// The plan that the inner device runs: the same places, the CPU's kernels.
fn inner_plan(owner: &Arc<DeviceState>, planned: &Arc<Plan>) -> Result<Arc<Plan>, BindError> {
    let is_fast = |kernel: &str| owner.spec.mask.is_fast(kernel);
    if !planned.steps.iter().any(|s| is_fast(&s.route.kernel)) {
        return Ok(Arc::clone(planned));
    }
    let collective = planned
        .steps
        .iter()
        .find(|s| s.is_exchange && matches!(planned.graph.node(s.node).op, Op::Collective(_)));
    let options = PlanOptions {
        precision: planned.precision,
        passes: PassSet::none(),
        collectives: collective.map(|s| s.route.clone()),
    };
    let unmasked = FakeDevice::unmasked(Arc::clone(owner));
    plan(&planned.graph, &unmasked, &options)
        .map(Arc::new)
        .map_err(|error| {
            BindError::Device(DeviceError::Setting {
                device: owner.name.clone(),
                setting: "plan",
                value: error.to_string(),
                possible: "a plan that was made for this device".to_owned(),
            })
        })
}

/// Every place in the arena must be where the device can have it.
fn check_alignment(owner: &DeviceState, plan: &Plan) {
    let alignment = owner.spec.alignment_bytes;
    let values = plan.graph.values().iter().zip(&plan.places).enumerate();
    let values = values.filter(|(i, (value, place))| {
        value.storage.index() == *i && matches!(place.region, Region::Arena(_)) && place.bytes > 0
    });
    let values = values.map(|(_, (value, place))| (value.producer, place.offset));
    let scratch = plan.steps.iter().filter(|s| s.route.scratch_bytes > 0);
    let scratch = scratch.map(|s| (s.node, s.scratch_offset));
    for (node, offset) in values.chain(scratch).filter(|(_, o)| o % alignment != 0) {
        owner.report(Finding::Misaligned {
            device: owner.name.clone(),
            what: plan.graph.node(node).name.to_string(),
            offset,
            alignment,
        });
    }
}

impl FakeExecutable {
    pub(super) fn new(
        owner: &Arc<DeviceState>,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Self, BindError> {
        let life = owner.alive()?;
        let buffers = bindings.resolve(plan)?;
        let names = plan.weights.iter().map(|w| &w.name);
        let names = names.chain(plan.states.iter().map(|s| &s.name));
        let mut inner_bindings = Bindings::new();
        for (buffer, name) in buffers.iter().zip(names) {
            let buffer = FakeBuffer::of(owner, &**buffer)?;
            inner_bindings.insert(name, Arc::clone(buffer.inner()));
        }
        let bound = buffers.into_iter().map(|buffer| {
            let now = buffer.generation().now();
            (buffer, now)
        });
        let bound = bound.collect();
        check_alignment(owner, plan);

        let arena_bytes = plan.arenas.iter().sum();
        let arena_hold = owner.hold(Point::Alloc, arena_bytes, || "arena".to_owned())?;
        let constant_bytes = constant_bytes(plan, owner.spec.alignment_bytes);
        let constant_hold = (constant_bytes > 0)
            .then(|| owner.hold(Point::Alloc, constant_bytes, || "constants".to_owned()))
            .transpose()?;

        let runs = inner_plan(owner, plan)?;
        let inner = owner.inner.compile(&runs, &inner_bindings);
        let inner = inner.map_err(|error| owner.own_bind(error))?;
        let find = |wanted: fn(Region) -> bool| {
            let values = runs.graph.nodes().iter().flat_map(|node| &node.outputs);
            let mut slices = values
                .filter(|v| wanted(runs.place(**v).region))
                .filter_map(|v| inner.value(*v));
            slices.next().map(|slice| slice.buffer)
        };
        let mut holds = Vec::new();
        let mut wrap =
            |memory: Option<Arc<dyn Buffer>>, written: Written, hold: Option<Hold>| match (
                memory, hold,
            ) {
                (Some(memory), Some(hold)) => {
                    FakeBuffer::new(owner, memory, written, hold).map(|b| Some(Arc::new(b)))
                }
                (_, hold) => {
                    holds.extend(hold);
                    Ok(None)
                }
            };
        let arena = find(|region| matches!(region, Region::Arena(_)));
        if let Some(arena) = &arena {
            owner.poison(BufferSlice::whole(Arc::clone(arena)))?;
        }
        let arena = wrap(arena, Written::default(), Some(arena_hold))?;
        let constants = find(|region| matches!(region, Region::Constant(_)));
        let written = Written::whole(constants.as_ref().map_or(0, |c| c.bytes()));
        let constants = wrap(constants, written, constant_hold)?;
        Ok(Self {
            owner: Arc::clone(owner),
            life,
            plan: Arc::clone(plan),
            accesses: accesses(&runs),
            inner,
            bound,
            arena,
            constants,
            _holds: holds,
        })
    }

    /// The fake buffer behind a region.
    fn buffer(&self, region: Region) -> Option<Arc<dyn Buffer>> {
        let own = |buffer: &Option<Arc<FakeBuffer>>| -> Option<Arc<dyn Buffer>> {
            Some(Arc::<FakeBuffer>::clone(buffer.as_ref()?))
        };
        match region {
            Region::Arena(_) => own(&self.arena),
            Region::Constant(_) => own(&self.constants),
            Region::Weight(i) => Some(Arc::clone(&self.bound.get(i)?.0)),
            Region::State(i) => {
                let (buffer, _) = self.bound.get(self.plan.weights.len() + i)?;
                Some(Arc::clone(buffer))
            }
        }
    }

    /// The record of what was written to a region; constants need none.
    fn written(&self, region: Region) -> Option<MutexGuard<'_, Written>> {
        let buffer = match region {
            Region::Arena(_) => return Some(self.arena.as_ref()?.written()),
            Region::Constant(_) => return None,
            Region::Weight(i) => self.bound.get(i),
            Region::State(i) => self.bound.get(self.plan.weights.len() + i),
        };
        let (buffer, _) = buffer?;
        Some(FakeBuffer::of(&self.owner, &**buffer).ok()?.written())
    }

    /// What the inner executable refuses, and what is wrong with whoever asks for it.
    fn check_use(&self, steps: &Range<usize>) {
        let device = || self.owner.name.clone();
        let asked = self.accesses.get(steps.clone()).unwrap_or_default();
        if let Some(exchange) = asked.iter().find(|access| access.is_exchange) {
            self.owner.report(Finding::ExchangeRun {
                device: device(),
                steps: steps.clone(),
                node: exchange.node.clone(),
            });
        }
        let names = self.plan.weights.iter().map(|w| &w.name);
        let names = names.chain(self.plan.states.iter().map(|s| &s.name));
        let stale = self.bound.iter().zip(names);
        let mut stale = stale.filter(|((b, bound), _)| b.generation().now() != *bound);
        if let Some((_, name)) = stale.next() {
            self.owner.report(Finding::StaleRun {
                device: device(),
                name: name.clone(),
            });
        }
    }

    /// Follows the steps in order: what each reads must be there, what each writes is there from then on.
    fn follow(&self, steps: &Range<usize>) {
        let asked = self.accesses.get(steps.clone()).unwrap_or_default();
        for (access, step) in asked.iter().zip(steps.clone()) {
            let device = &self.owner.name;
            let finding = access.poisoned(&self.plan, device, step, |r| self.written(r));
            if let Some(finding) = finding {
                self.owner.report(finding);
            }
            if let Some(arena) = &self.arena {
                arena.written().set(access.scratch.clone(), Writer::Scratch);
            }
            for write in &access.writes {
                if let Some(mut written) = self.written(write.region) {
                    written.set(write.range.clone(), write.writer());
                }
            }
        }
    }

    /// Steps that did not run wrote nothing.
    fn forget(&self, steps: Range<usize>) {
        let asked = self.accesses.get(steps).unwrap_or_default();
        for write in asked.iter().flat_map(|access| &access.writes) {
            if let (Region::Arena(_), Some(mut written)) =
                (write.region, self.written(write.region))
            {
                written.clear(write.range.clone());
            }
        }
    }

    /// Outputs that these steps computed must hold no poison.
    fn check_outputs(&self, steps: &Range<usize>) -> Result<(), DeviceError> {
        let asked = self.accesses.get(steps.clone()).unwrap_or_default();
        for slot in &self.plan.outputs {
            let elem_bytes = match slot.desc.dtype {
                DType::F32 => 4,
                DType::F16 | DType::BF16 => 2,
                _ => continue,
            };
            let Some(slice) = self.inner.value(slot.value) else {
                continue;
            };
            let storage = self.plan.graph.value(slot.value).storage;
            let mut writes = asked.iter().flat_map(|access| &access.writes);
            let is_written = writes.any(|write| write.storage == storage.index());
            if !is_written {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(slice.bytes).unwrap_or(0)];
            let mut queue = self.owner.inner.queue()?;
            if queue.download(&slice, &mut bytes).is_err() {
                continue;
            }
            let poison = poison(elem_bytes);
            let found = bytes.chunks(elem_bytes).position(|elem| elem == poison);
            if let Some(element) = found {
                self.owner.report(Finding::PoisonOutput {
                    device: self.owner.name.clone(),
                    output: slot.name.clone(),
                    offset: (element * elem_bytes) as u64,
                });
            }
        }
        Ok(())
    }
}

impl Executable for FakeExecutable {
    fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        let slice = self.inner.value(value)?;
        let region = self.plan.places.get(value.index())?.region;
        Some(BufferSlice {
            buffer: self.buffer(region)?,
            ..slice
        })
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        self.owner.check_life(self.life)?;
        let what = || format!("steps {}..{}", steps.start, steps.end);
        self.owner.event(Point::Launch, 0, what)?;
        self.check_use(&steps);
        self.follow(&steps);
        if let Err(error) = self.inner.run(steps.clone()) {
            let done = match &error {
                ExecError::Fault { step, .. } => *step,
                _ => steps.start,
            };
            self.forget(done..steps.end);
            return Err(self.owner.own_run(error));
        }
        Ok(self.check_outputs(&steps)?)
    }

    fn capture_state(&self) -> CaptureState {
        self.inner.capture_state()
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.inner.capture()
    }

    fn release_capture(&mut self) {
        self.inner.release_capture();
    }
}
