//! A plan with memory bound to it, ready to run: launches with all their addresses, walked or replayed as one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use ggrs_core::device::{
    Bindings, BoundMemory, BufferSlice, Capture, CaptureState, Executable, KernelTime, WeightForm,
};
use ggrs_core::plan::Plan;
use ggrs_core::{BindError, ExecError, ValueId};

use crate::buffer::{SimtBuffer, locate};
use crate::context::Context;
use crate::counters::Counters;
use crate::driver::Recording;
use crate::faults::FaultBoard;
use crate::places::{Operands, Places};
use crate::track::Track;
use crate::work::{Work, works};

/// Offsets of values in an arena are multiples of this: what the widest loads and the copy engines want.
pub(crate) const ALIGN: u64 = 256;

/// Times that a profile runs each kernel; the best counts.
const PROFILED: usize = 5;

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
    /// Which of them each step is; `None` for exchanges, which run outside.
    steps: Vec<Option<Range<usize>>>,
    /// Which of them each kernel or stage is, by its name.
    kernels: Vec<(String, Range<usize>)>,
    faults: Arc<FaultBoard>,
    _counters: Counters,
    capture: Capture<Recorded>,
    /// All launches in order. The last to go: no recording is left of a group that ends with it.
    track: Track,
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
        let (mut entries, mut nodes, mut kernels) = (Vec::new(), Vec::new(), Vec::new());
        let mut steps = vec![None; plan.steps.len()];
        for work in &works {
            let (own, rest) = cells
                .split_at_checked(work.faults().len())
                .unwrap_or_default();
            cells = rest;
            let start = entries.len();
            entries.extend(work.entries(&operands, own, counters.at(n_counted)));
            n_counted += work.n_counters();
            let end = entries.len();
            kernels.push((work.name(), start..end));
            let first = plan.steps.get(work.steps().start);
            let node = first.map_or("", |step| &*plan.graph.node(step.node).name);
            nodes.resize(end, node);
            // The first step stands for all that run with it.
            let own = steps.get_mut(work.steps()).into_iter().flatten();
            for (step, start) in own.zip(std::iter::once(start).chain(std::iter::repeat(end))) {
                *step = Some(start..end);
            }
        }
        let mut track = Track::new(context);
        for (entry, node) in entries.into_iter().zip(nodes) {
            track.push(entry, node)?;
        }
        Ok(Self {
            context: Arc::clone(context),
            memory,
            steps,
            kernels,
            faults,
            _counters: counters,
            capture: Capture::default(),
            track,
        })
    }

    fn drop_recordings(&mut self, recorded: Recorded) {
        if let Recorded::Runs(runs) = recorded {
            let mut gate = self.context.gate();
            self.context.drain(&mut gate);
            for recording in runs.into_values() {
                self.context.driver.destroy_recording(recording);
            }
        }
    }
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
        let track = &self.track;
        let is_armed = self.capture.state() == CaptureState::Armed;
        let mut gate = context.gate();
        track.meet(&mut gate, &run)?;
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
                    return Ok(track.walk(&gate, &run)?);
                };
                if run.is_empty() {
                    return Ok(());
                }
                let recording = match runs.get(&steps) {
                    Some(recording) => *recording,
                    None => {
                        let recording = track.record(&gate, std::slice::from_ref(&run))?;
                        runs.insert(steps.clone(), recording);
                        recording
                    }
                };
                Ok(track.replay(&gate, recording, &run)?)
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
        let parts = of_name.map(|(_, part)| part.clone());
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        // A library's sums come to an end only in a run of all members.
        if parts.is_empty() || !parts.iter().all(|part| self.track.is_alone(part)) {
            return Ok(None);
        }
        let context = &self.context;
        let mut gate = context.gate();
        context.synchronize(&mut gate)?;
        let recording = self.track.record(&gate, &parts)?;
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
        self.context.drain(&mut self.context.gate());
    }
}
