//! A plan with memory bound to it, ready to run: launches with all their addresses, walked or replayed as one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use ggrs_core::device::{
    Bindings, BoundMemory, BufferSlice, Capture, CaptureState, Executable, WeightForm,
};
use ggrs_core::plan::{Plan, Step};
use ggrs_core::{BindError, DeviceError, ExecError, ValueId};

use crate::buffer::{SimtBuffer, locate};
use crate::context::{Context, Gate};
use crate::driver::{Function, Geometry, Recording};
use crate::faults::FaultBoard;
use crate::kernel::{Choice, Launch, Request};
use crate::places::Places;
use crate::routes;

/// Offsets of values in an arena are multiples of this: what the widest loads and the copy engines want.
pub(crate) const ALIGN: u64 = 256;

/// A launch with its kernel loaded.
struct Ready {
    function: Function,
    geometry: Geometry,
    params: Box<[u8]>,
}

/// What a captured executable replays: a recording for each run of steps that was asked for.
enum Recorded {
    /// Nothing: launches are walked.
    Not,
    /// Recordings by their steps.
    Runs(HashMap<Range<usize>, Recording>),
}

/// A compiled plan.
pub(crate) struct SimtExecutable {
    context: Arc<Context>,
    memory: BoundMemory,
    /// All launches in order.
    launches: Vec<Ready>,
    /// Which of them each step is; `None` for exchanges, which run outside.
    steps: Vec<Option<Range<usize>>>,
    faults: Arc<FaultBoard>,
    capture: Capture<Recorded>,
}

impl SimtExecutable {
    /// Binds memory to a plan: checks the buffers, allocates the arena, uploads constants, finds, compiles and loads
    /// every kernel.
    pub(crate) fn new(
        context: &Arc<Context>,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Self, BindError> {
        let memory = BoundMemory::new(&context.name, plan, bindings, ALIGN, |bytes, usage| {
            let what = format!("{usage:?}").to_lowercase();
            let form = WeightForm::Native;
            Ok(Arc::new(SimtBuffer::new(context, bytes, usage, form, &what)?))
        })?;
        for buffer in memory.bound() {
            SimtBuffer::of(context, &**buffer)?;
        }
        for (slice, bytes) in memory.constants() {
            let start = locate(context, &slice)?;
            context.upload(&mut context.gate(), start, bytes)?;
        }
        let choose = |step: &Step| (!step.is_exchange).then(|| choose(context, &memory, step));
        let choices = plan.steps.iter().map(|step| choose(step).transpose());
        let choices: Vec<Option<Choice>> = choices.collect::<Result<_, _>>()?;

        let kinds = choices.iter().enumerate().flat_map(|(step, choice)| {
            let kinds = choice.iter().flat_map(|c| c.faults());
            kinds.map(move |kind| (step, *kind))
        });
        let faults = Arc::new(FaultBoard::new(context, plan, kinds.collect())?);
        let places = Places {
            context,
            memory: &memory,
        };
        let (mut launches, mut steps, mut n_cells) = (Vec::new(), Vec::new(), 0);
        for (step, choice) in plan.steps.iter().zip(&choices) {
            let Some(choice) = choice else {
                steps.push(None);
                continue;
            };
            let start = launches.len();
            for launch in places.launches(step, choice, faults.cells_from(n_cells))? {
                launches.push(ready(context, launch)?);
            }
            n_cells += choice.faults().len();
            steps.push(Some(start..launches.len()));
        }
        Ok(Self {
            context: Arc::clone(context),
            memory,
            launches,
            steps,
            faults,
            capture: Capture::default(),
        })
    }

    fn drop_recordings(&mut self, recorded: Recorded) {
        if let Recorded::Runs(runs) = recorded {
            let gate = self.context.gate();
            let _ = self.context.driver.synchronize(gate.stream);
            for recording in runs.into_values() {
                self.context.driver.destroy_recording(recording);
            }
        }
    }
}

/// The kernel of a step: the one that the plan's route names.
fn choose(
    context: &Arc<Context>,
    memory: &BoundMemory,
    step: &Step,
) -> Result<Choice, DeviceError> {
    let facts = context.facts();
    let chosen = memory.with_request(step, |operands| {
        routes::choose(&Request { operands, facts }).ok()
    });
    let planned = |choice: &Choice| {
        let route = choice.route();
        route.kernel == step.route.kernel && route.scratch_bytes <= step.route.scratch_bytes
    };
    chosen
        .filter(planned)
        .ok_or_else(|| memory.foreign_plan(step))
}

fn ready(context: &Context, launch: Launch) -> Result<Ready, DeviceError> {
    Ok(Ready {
        function: context.library.function(&launch)?,
        geometry: launch.geometry,
        params: launch.params,
    })
}

/// Which of the launches are these steps; `None` if there is an exchange among them or they reach past the end.
fn launches_of(steps: &[Option<Range<usize>>], run: &Range<usize>) -> Option<Range<usize>> {
    let mut inside = steps.get(run.clone())?.iter();
    let Some(first) = inside.next() else {
        return Some(0..0);
    };
    let first = first.clone()?;
    inside.try_fold(first, |all, next| Some(all.start..next.as_ref()?.end))
}

/// Puts launches into the stream.
fn walk(context: &Context, gate: &Gate, launches: &[Ready]) -> Result<(), DeviceError> {
    for ready in launches {
        // SAFETY: the parameter block was built by the kernel's own family over memory that the executable keeps;
        // whoever drops it waits for the stream first.
        let launched = unsafe {
            context
                .driver
                .launch(gate.stream, ready.function, &ready.geometry, &ready.params)
        };
        launched.map_err(|e| context.error(e))?;
    }
    Ok(())
}

/// Records launches as one.
fn record(context: &Context, gate: &Gate, launches: &[Ready]) -> Result<Recording, DeviceError> {
    let driver = &context.driver;
    driver.begin_recording(gate.stream).map_err(|e| context.error(e))?;
    let walked = walk(context, gate, launches);
    let ended = driver.end_recording(gate.stream);
    walked?;
    ended.map_err(|e| context.error(e))
}

impl Executable for SimtExecutable {
    fn plan(&self) -> &Arc<Plan> {
        self.memory.plan()
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        self.memory.slice(value)
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        let run = launches_of(&self.steps, &steps).ok_or_else(|| self.memory.not_a_run(&steps))?;
        self.memory.check_generations()?;
        let context = &self.context;
        let launches = self.launches.get(run).unwrap_or_default();
        let is_armed = self.capture.state() == CaptureState::Armed;
        let gate = context.gate();
        self.capture.run(
            || {
                Ok(if is_armed {
                    Recorded::Runs(HashMap::new())
                } else {
                    Recorded::Not
                })
            },
            |recorded| {
                let Recorded::Runs(runs) = recorded else {
                    return Ok(walk(context, &gate, launches)?);
                };
                if launches.is_empty() {
                    return Ok(());
                }
                let recording = match runs.get(&steps) {
                    Some(recording) => *recording,
                    None => {
                        let recording = record(context, &gate, launches)?;
                        runs.insert(steps.clone(), recording);
                        recording
                    }
                };
                // SAFETY: as for launches.
                let replayed = unsafe { context.driver.replay(gate.stream, recording) };
                Ok(replayed.map_err(|e| context.error(e))?)
            },
        )?;
        drop(gate);
        let mut submitted = context.submitted.lock().unwrap_or_else(PoisonError::into_inner);
        *submitted = Some(Arc::clone(&self.faults));
        Ok(())
    }

    fn capture_state(&self) -> CaptureState {
        self.capture.state()
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.capture.arm()
    }

    fn release_capture(&mut self) {
        if let Some(recorded) = self.capture.release() {
            self.drop_recordings(recorded);
        }
    }
}

impl Drop for SimtExecutable {
    fn drop(&mut self) {
        self.release_capture();
    }
}
