//! A plan with memory bound to it, ready to run: launches with all their addresses, walked or replayed as one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use ggrs_core::device::{
    Bindings, BoundMemory, BufferSlice, Capture, CaptureState, Executable, KernelTime, WeightForm,
};
use ggrs_core::plan::Plan;
use ggrs_core::{BindError, DeviceError, ExecError, ValueId};

use crate::buffer::{SimtBuffer, locate};
use crate::context::{Context, Gate};
use crate::counters::Counters;
use crate::driver::{Function, Geometry, Recording};
use crate::faults::FaultBoard;
use crate::kernel::Launch;
use crate::places::{Operands, Places};
use crate::work::{Work, works};

/// Offsets of values in an arena are multiples of this: what the widest loads and the copy engines want.
pub(crate) const ALIGN: u64 = 256;

/// Times that a profile runs each kernel; the best counts.
const PROFILED: usize = 5;

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
    /// Which of them each kernel or stage is, by its name.
    kernels: Vec<(String, Range<usize>)>,
    faults: Arc<FaultBoard>,
    _counters: Counters,
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
            Ok(Arc::new(SimtBuffer::new(
                context, bytes, usage, form, &what,
            )?))
        })?;
        for buffer in memory.bound() {
            SimtBuffer::of(context, &**buffer)?;
        }
        for (slice, bytes) in memory.constants() {
            let start = locate(context, &slice)?;
            context.upload(&mut context.gate(), start, bytes)?;
        }
        let works = works(context, &memory)?;
        let faults = works.iter().flat_map(Work::faults).collect();
        let faults = Arc::new(FaultBoard::new(context, plan, faults)?);
        let counters = Counters::new(context, works.iter().map(Work::n_counters).sum())?;
        let places = Places {
            context,
            memory: &memory,
        };
        let operands = plan.steps.iter().map(|step| places.operands(step));
        let operands: Vec<Operands<'_>> = operands.collect::<Result<_, _>>()?;
        let cells = faults.cells();
        let mut cells = cells.as_slice();
        let mut n_counted = 0;
        let (mut launches, mut kernels) = (Vec::new(), Vec::new());
        let mut steps = vec![None; plan.steps.len()];
        for work in &works {
            let (own, rest) = cells
                .split_at_checked(work.faults().len())
                .unwrap_or_default();
            cells = rest;
            let start = launches.len();
            for launch in work.launches(&operands, own, counters.at(n_counted)) {
                launches.push(ready(context, launch)?);
            }
            n_counted += work.n_counters();
            kernels.push((work.name(), start..launches.len()));
            // The first step stands for all that run with it.
            let end = launches.len();
            let own = steps.get_mut(work.steps()).into_iter().flatten();
            for (step, start) in own.zip(std::iter::once(start).chain(std::iter::repeat(end))) {
                *step = Some(start..end);
            }
        }
        Ok(Self {
            context: Arc::clone(context),
            memory,
            launches,
            steps,
            kernels,
            faults,
            _counters: counters,
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
fn record<'a>(
    context: &Context,
    gate: &Gate,
    mut parts: impl Iterator<Item = &'a [Ready]>,
) -> Result<Recording, DeviceError> {
    let driver = &context.driver;
    driver
        .begin_recording(gate.stream)
        .map_err(|e| context.error(e))?;
    let walked = parts.try_for_each(|launches| walk(context, gate, launches));
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
                        let recording = record(context, &gate, std::iter::once(launches))?;
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
        let mut submitted = context
            .submitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *submitted = Some(Arc::clone(&self.faults));
        Ok(())
    }

    fn capture_state(&self) -> CaptureState {
        self.capture.state()
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.capture.arm()
    }

    fn kernels(&self) -> Vec<String> {
        let mut names: Vec<String> = self.kernels.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn time_kernel(&mut self, kernel: &str) -> Result<Option<KernelTime>, ExecError> {
        let of_name = self.kernels.iter().filter(|(name, _)| name == kernel);
        let parts = of_name.map(|(_, launches)| self.launches.get(launches.clone()));
        let parts: Vec<&[Ready]> = parts.flatten().filter(|p| !p.is_empty()).collect();
        if parts.is_empty() {
            return Ok(None);
        }
        let context = &self.context;
        let mut gate = context.gate();
        let recording = record(context, &gate, parts.iter().copied())?;
        let replay = || {
            // SAFETY: as for launches.
            let replayed = unsafe { context.driver.replay(gate.stream, recording) };
            replayed.map_err(|e| context.error(e))
        };
        let timed = context.best_seconds(&gate, PROFILED, &replay);
        context.driver.destroy_recording(recording);
        let seconds = timed?;
        // It ran again over what others left: what it found in data is nobody's. That nobody came is an answer.
        if let Err(late @ ExecError::Device(_)) = self.faults.check(&mut gate) {
            return Err(late);
        }
        Ok(Some(KernelTime {
            kernel: kernel.to_owned(),
            n_times: parts.len(),
            n_launches: parts.iter().map(|p| p.len()).sum(),
            seconds,
        }))
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
