//! A plan with memory bound to it, ready to run. It must not know what kernels compute.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{
    Bindings, Buffer, BufferSlice, BufferUse, Capture, CaptureState, Executable, RouteRequest,
    WeightForm,
};
use ggrs_core::error::Fault;
use ggrs_core::ops::{LeafKind, Op};
use ggrs_core::plan::{Plan, Region, Step};
use ggrs_core::{BindError, DeviceError, ExecError, ValueId};
use smallvec::SmallVec;

use crate::buffer::{CpuBuffer, Shared};
use crate::kernel::{Choice, Machine, Request};
use crate::memory::ALIGN;
use crate::routes;
use crate::team::{self, Launch};
use crate::view::Places;

/// Bytes and operations below which waiting for other threads costs more than they save: about 3 microseconds of work.
const SMALL_WORK: f64 = 65536.0;

/// A compiled plan.
pub(crate) struct CpuExecutable {
    memory: BoundMemory,
    /// The kernel of each step, and whether the step is small; `None` for exchanges, which run outside.
    choices: Vec<Option<(Choice, bool)>>,
    /// The recording is the kernels over their memory.
    capture: Capture<Vec<Launch>>,
}

/// The plan's memory.
struct BoundMemory {
    device: Arc<Shared>,
    plan: Arc<Plan>,
    /// Weights, then states, each with its generation when it was bound.
    bound: Vec<(Arc<dyn Buffer>, u64)>,
    arena: Arc<dyn Buffer>,
    constants: Arc<dyn Buffer>,
    /// Where each constant begins.
    constant_offsets: Vec<u64>,
}

impl CpuExecutable {
    /// Binds memory to a plan: checks the buffers, allocates the arena, uploads constants, finds every kernel.
    pub(crate) fn new(
        device: &Arc<Shared>,
        machine: Machine,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Self, BindError> {
        let buffers = bindings.resolve(plan)?;
        for buffer in &buffers {
            CpuBuffer::of(device, &**buffer)?;
        }
        let bound = buffers
            .into_iter()
            .map(|b| {
                let now = b.generation().now();
                (b, now)
            })
            .collect();
        let arena = CpuBuffer::new(
            device,
            plan.arenas.iter().sum(),
            BufferUse::Arena,
            WeightForm::Native,
        )?;
        let (constants, constant_offsets) = upload_constants(device, plan)?;
        let memory = BoundMemory {
            device: Arc::clone(device),
            plan: Arc::clone(plan),
            bound,
            arena: Arc::new(arena),
            constants: Arc::new(constants),
            constant_offsets,
        };
        let choices = plan
            .steps
            .iter()
            .map(|step| {
                (!step.is_exchange)
                    .then(|| memory.choose(step, machine))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        // What could be wrong with a place shows here, not in the first run.
        memory.launches(&choices)?;
        Ok(Self {
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

/// All constants in one buffer, and where each begins.
fn upload_constants(
    device: &Arc<Shared>,
    plan: &Plan,
) -> Result<(CpuBuffer, Vec<u64>), DeviceError> {
    let mut offsets = Vec::with_capacity(plan.constants.len());
    let mut end = 0u64;
    for constant in &plan.constants {
        offsets.push(end);
        end = end
            .saturating_add(constant.bytes)
            .checked_next_multiple_of(ALIGN as u64)
            .unwrap_or(u64::MAX);
    }
    let buffer = CpuBuffer::new(device, end, BufferUse::Constants, WeightForm::Native)?;
    let mut gate = device.gate();
    let bytes = buffer.write(&mut gate);
    for (constant, offset) in plan.constants.iter().zip(&offsets) {
        if let Op::Leaf(leaf) = &plan.graph.node(constant.node).op
            && let LeafKind::Constant(data) = &leaf.kind
            && let Ok(start) = usize::try_from(*offset)
            && let Some(target) = bytes.get_mut(start..start + data.0.len())
        {
            target.copy_from_slice(&data.0);
        }
    }
    drop(gate);
    Ok((buffer, offsets))
}

impl BoundMemory {
    /// The kernel of a step (the one that the plan's route names), and whether the step is small.
    fn choose(&self, step: &Step, machine: Machine) -> Result<(Choice, bool), DeviceError> {
        let plan = &self.plan;
        let node = plan.graph.node(step.node);
        let (inputs, outputs) = plan.graph.io(node);
        let forms: SmallVec<[Option<WeightForm>; 4]> = node
            .inputs
            .iter()
            .map(|v| match plan.place(*v).region {
                Region::Weight(i) => plan.weights.get(i).map(|w| w.form),
                _ => None,
            })
            .collect();
        let operands = RouteRequest {
            op: &node.op,
            inputs: &inputs,
            forms: &forms,
            outputs: &outputs,
            precision: plan.precision,
        };
        let choice = routes::choose(&Request {
            operands: &operands,
            machine,
        })
        .ok();
        let planned = |choice: &Choice| {
            let route = choice.route();
            route.kernel == step.route.kernel && route.scratch_bytes <= step.route.scratch_bytes
        };
        let spec = node.op.spec();
        let work = spec.bytes(&inputs, &outputs) + spec.flops(&inputs, &outputs);
        let choice = choice
            .filter(planned)
            .map(|choice| (choice, work < SMALL_WORK));
        choice.ok_or_else(|| DeviceError::Setting {
            device: self.device.name.clone(),
            setting: "plan",
            value: step.route.kernel.to_string(),
            possible: "a plan that was made for this device, with its threads and instruction set"
                .to_owned(),
        })
    }

    /// The kernels of all steps over their memory.
    fn launches(&self, choices: &[Option<(Choice, bool)>]) -> Result<Vec<Launch>, DeviceError> {
        let find = |region| self.find(region);
        let places = Places {
            plan: &self.plan,
            device: &self.device.name,
            find: &find,
        };
        let steps = self.plan.steps.iter().zip(choices);
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

    fn buffer(&self, region: Region) -> Option<(&Arc<dyn Buffer>, u64)> {
        match region {
            Region::Arena(_) => Some((&self.arena, 0)),
            Region::Weight(i) => self.bound.get(i).map(|(b, _)| (b, 0)),
            Region::State(i) => self
                .bound
                .get(self.plan.weights.len() + i)
                .map(|(b, _)| (b, 0)),
            Region::Constant(i) => self
                .constant_offsets
                .get(i)
                .map(|offset| (&self.constants, *offset)),
        }
    }

    fn find(&self, region: Region) -> Option<(&CpuBuffer, u64)> {
        let (buffer, offset) = self.buffer(region)?;
        Some((CpuBuffer::of(&self.device, &**buffer).ok()?, offset))
    }

    /// Every buffer must be of the generation that was bound.
    fn check_generations(&self) -> Result<(), ExecError> {
        let Some(at) = self
            .bound
            .iter()
            .position(|(buffer, bound)| buffer.generation().now() != *bound)
        else {
            return Ok(());
        };
        let weights = self.plan.weights.iter().map(|w| &w.name);
        let mut names = weights.chain(self.plan.states.iter().map(|s| &s.name));
        Err(ExecError::StaleBinding {
            name: names.nth(at).cloned().unwrap_or_default(),
        })
    }

    fn slice(&self, value: ValueId) -> Option<BufferSlice> {
        let desc = &self.plan.graph.values().get(value.index())?.desc;
        let place = self.plan.place(value);
        if !desc.is_contiguous() {
            return None;
        }
        let (buffer, base) = self.buffer(place.region)?;
        let n_bytes = desc.bytes()? as u64;
        // An empty view may begin behind the end.
        let skip = if n_bytes == 0 {
            0
        } else {
            desc.elem_bytes(desc.layout.offset())? as u64
        };
        let offset = base.checked_add(place.offset)?.checked_add(skip)?;
        let whole = BufferSlice::whole(Arc::clone(buffer));
        whole.range(&self.device.name, offset, n_bytes).ok()
    }

    /// Steps that are past the end or among which is an exchange.
    fn not_a_run(&self, steps: &Range<usize>) -> ExecError {
        ExecError::Steps {
            device: self.device.name.clone(),
            steps: steps.clone(),
            n_steps: self.plan.steps.len(),
        }
    }

    fn fault(&self, position: usize, fault: Fault) -> ExecError {
        let Some(step) = self.plan.steps.get(position) else {
            let cause = fault.to_string();
            return DeviceError::Lost {
                device: self.device.name.clone(),
                cause,
            }
            .into();
        };
        let node = self.plan.graph.node(step.node);
        ExecError::Fault {
            step: position,
            node_id: step.node,
            node: node.name.to_string(),
            op: node.op.spec().stem(),
            fault,
        }
    }
}

impl Executable for CpuExecutable {
    fn plan(&self) -> &Arc<Plan> {
        &self.memory.plan
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        self.memory.slice(value)
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        let Self {
            memory,
            choices,
            capture,
        } = self;
        let launches = launches_of(choices, &steps).ok_or_else(|| memory.not_a_run(&steps))?;
        memory.check_generations()?;
        let mut gate = memory.device.gate();
        capture.run(
            || Ok(memory.launches(choices)?),
            |all| {
                let run = all.get(launches).unwrap_or_default();
                let failed = |(i, fault)| memory.fault(steps.start + i, fault);
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
