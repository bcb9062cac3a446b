//! A plan with memory bound to it, ready to run. It must not know what kernels compute.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{
    Bindings, BoundMemory, BufferSlice, Capture, CaptureState, Executable, WeightForm,
};
use ggrs_core::plan::{Plan, Step};
use ggrs_core::{BindError, DeviceError, ExecError, ValueId};

use crate::buffer::{CpuBuffer, Shared, locate};
use crate::kernel::{Choice, Machine, Request};
use crate::memory::ALIGN;
use crate::routes;
use crate::team::{self, Launch};
use crate::view::Places;

/// Bytes and operations below which waiting for other threads costs more than they save: about 3 microseconds of work.
const SMALL_WORK: f64 = 65536.0;

/// A compiled plan.
pub(crate) struct CpuExecutable {
    device: Arc<Shared>,
    memory: BoundMemory,
    /// The kernel of each step, and whether the step is small; `None` for exchanges, which run outside.
    choices: Vec<Option<(Choice, bool)>>,
    /// The recording is the kernels over their memory.
    capture: Capture<Vec<Launch>>,
}

impl CpuExecutable {
    /// Binds memory to a plan: checks the buffers, allocates the arena, uploads constants, finds every kernel.
    pub(crate) fn new(
        device: &Arc<Shared>,
        machine: Machine,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Self, BindError> {
        let memory = BoundMemory::new(
            &device.name,
            plan,
            bindings,
            ALIGN as u64,
            |bytes, usage| {
                Ok(Arc::new(CpuBuffer::new(
                    device,
                    bytes,
                    usage,
                    WeightForm::Native,
                )?))
            },
        )?;
        for buffer in memory.bound() {
            CpuBuffer::of(device, &**buffer)?;
        }
        for (slice, bytes) in memory.constants() {
            let (buffer, range) = locate(device, &slice)?;
            if let Some(target) = buffer.write(&mut device.gate()).get_mut(range) {
                target.copy_from_slice(bytes);
            }
        }
        let choose = |step: &Step| (!step.is_exchange).then(|| choose(&memory, step, machine));
        let choices = plan.steps.iter().map(|step| choose(step).transpose());
        let choices = choices.collect::<Result<Vec<_>, _>>()?;
        // What could be wrong with a place shows here, not in the first run.
        launches(device, &memory, &choices)?;
        Ok(Self {
            device: Arc::clone(device),
            memory,
            choices,
            capture: Capture::default(),
        })
    }
}

/// Which of the launches are these steps; `None` if there is an exchange among them or they reach past the end.
fn launches_of(choices: &[Option<(Choice, bool)>], steps: &Range<usize>) -> Option<Range<usize>> {
    let inside = choices.get(steps.clone())?;
    if inside.iter().any(Option::is_none) {
        return None;
    }
    let before = choices.get(..steps.start)?.iter().flatten().count();
    Some(before..before + steps.len())
}

/// The kernel of a step (the one that the plan's route names), and whether the step is small.
fn choose(
    memory: &BoundMemory,
    step: &Step,
    machine: Machine,
) -> Result<(Choice, bool), DeviceError> {
    let chosen = memory.with_request(step, |operands| {
        let choice = routes::choose(&Request { operands, machine }).ok()?;
        let spec = operands.op.spec();
        let work = spec.bytes(operands.inputs, operands.outputs)
            + spec.flops(operands.inputs, operands.outputs);
        Some((choice, work < SMALL_WORK))
    });
    let planned = |(choice, _): &(Choice, bool)| {
        let route = choice.route();
        route.kernel == step.route.kernel && route.scratch_bytes <= step.route.scratch_bytes
    };
    chosen
        .filter(planned)
        .ok_or_else(|| memory.foreign_plan(step))
}

/// The kernels of all steps over their memory.
fn launches(
    device: &Arc<Shared>,
    memory: &BoundMemory,
    choices: &[Option<(Choice, bool)>],
) -> Result<Vec<Launch>, DeviceError> {
    let find = |region| {
        let (buffer, offset) = memory.buffer(region)?;
        Some((CpuBuffer::of(device, &**buffer).ok()?, offset))
    };
    let plan = memory.plan();
    let places = Places {
        plan,
        device: &device.name,
        find: &find,
    };
    let steps = plan.steps.iter().zip(choices);
    steps
        .filter_map(|(step, choice)| Some((step, choice.as_ref()?)))
        .map(|(step, (choice, is_small))| {
            let kernel = places.kernel(step, choice)?;
            Ok(Launch {
                kernel,
                is_small: *is_small,
            })
        })
        .collect()
}

impl Executable for CpuExecutable {
    fn plan(&self) -> &Arc<Plan> {
        self.memory.plan()
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        self.memory.slice(value)
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        let Self {
            device,
            memory,
            choices,
            capture,
        } = self;
        let run = launches_of(choices, &steps).ok_or_else(|| memory.not_a_run(&steps))?;
        memory.check_generations()?;
        let plan = memory.plan();
        let mut gate = device.gate();
        capture.run(
            || Ok(launches(device, memory, choices)?),
            |all| {
                let run = all.get(run).unwrap_or_default();
                let failed = |(i, fault)| plan.fault(&device.name, steps.start + i, fault);
                team::run(&mut gate.pool, run).map_err(failed)
            },
        )
    }

    fn capture_state(&self) -> CaptureState {
        self.capture.state()
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.capture.arm()
    }

    fn release_capture(&mut self) {
        self.capture.release();
    }
}
