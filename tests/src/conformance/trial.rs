//! One problem on one device: planned, loaded, run eager and captured, with poison and guards around everything.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ggrs_core::device::{
    Bindings, Buffer, BufferSlice, BufferUse, CaptureState, Device, Precision, Queue, Runner, WeightSource,
};
use ggrs_core::error::Fault;
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{Plan, PlanOptions, Region, plan};
use ggrs_core::{ExecError, PlanError};

use super::judge::judge;
use crate::problem::{BadData, LeafData, Place, Posed};
use crate::sentinel::poison;
use crate::tolerance::Mode;

/// Guard bytes behind a state.
const GUARD: [u8; 64] = [0xa5; 64];

/// What a trial may find, and what makes it impossible.
type Failure = Box<dyn Error>;

/// How a problem did on a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial {
    /// It ran and every answer was close enough; the largest NMSE.
    Passed(f64),
    /// The device has no kernel; why.
    Refused(String),
}

/// Something a device did that no number tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Misdeed {
    /// The plan has no step of the op that the problem is about.
    NotAboutItsOp,
    /// A wrong answer.
    Answer { place: Place, run: &'static str, complaint: super::Complaint },
    /// Two runs on the same data differ.
    Unsteady { run: &'static str, place: Place, byte: usize },
    /// Bytes of the arena that belong to no value were written.
    ArenaHit { offset: usize },
    /// Bytes behind a state were written.
    GuardHit { state: String, offset: usize },
    /// An input was written.
    InputWritten { name: String, byte: usize },
    /// A weight reads back differently.
    WeightChanged { name: String, when: &'static str },
    /// Bad data was taken.
    NotRefused { leaf: String, expected: Fault },
    /// Bad data was refused in other words.
    OtherFault { leaf: String, expected: Fault, got: String },
    /// The capture is in another state than it must be.
    CaptureState { expected: CaptureState, got: CaptureState },
}

impl fmt::Display for Misdeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAboutItsOp => f.write_str("the graph has no node of the problem's stem"),
            Self::Answer { place, run, complaint } => write!(f, "{place:?}, {run} run: {complaint}"),
            Self::Unsteady { run, place, byte } => write!(f, "{run} run: byte {byte} of {place:?} differs from the first run"),
            Self::ArenaHit { offset } => write!(f, "byte {offset} of the arena, which no value owns, was written"),
            Self::GuardHit { state, offset } => write!(f, "byte {offset} behind {state} was written"),
            Self::InputWritten { name, byte } => write!(f, "byte {byte} of {name} was written"),
            Self::WeightChanged { name, when } => write!(f, "{name} reads back differently {when}"),
            Self::NotRefused { leaf, expected } => write!(f, "bad {leaf} was taken instead of: {expected}"),
            Self::OtherFault { leaf, expected, got } => write!(f, "bad {leaf}: \"{got}\" instead of: {expected}"),
            Self::CaptureState { expected, got } => write!(f, "the capture is {} instead of {}", got.name(), expected.name()),
        }
    }
}

impl Error for Misdeed {}

/// Runs a problem on a device in one precision.
///
/// The graph runs as it was built, without passes. Eager runs come first, then a captured one and its replays; each
/// starts from the same data in a poisoned arena and must give the same bytes. After each kind of run bad data is tried.
///
/// # Errors
/// The first thing that is wrong.
pub fn try_problem(posed: &Posed, device: &dyn Device, precision: Precision) -> Result<Trial, Failure> {
    if !posed.graph.nodes().iter().any(|node| node.op.spec().stem() == posed.stem) {
        return Err(Misdeed::NotAboutItsOp.into());
    }
    let options = PlanOptions { precision, passes: PassSet::none() };
    let planned = match plan(&posed.graph, device, &options) {
        Ok(planned) => Arc::new(planned),
        Err(PlanError::Unsupported { source, .. }) => return Ok(Trial::Refused(source.to_string())),
        Err(other) => return Err(other.into()),
    };
    let mut bench = Bench::new(posed, device, &planned)?;
    bench.check_weights("after loading")?;

    let mode = match precision {
        Precision::Exact => Mode::Exact,
        Precision::Fast => Mode::Fast,
    };
    let first = bench.run()?;
    let mut worst = 0.0f64;
    for (answer, bytes) in posed.answers.iter().zip(&first) {
        let judged = judge(answer, bytes, mode).map_err(|complaint| Misdeed::Answer {
            place: answer.place.clone(),
            run: "first",
            complaint,
        })?;
        worst = worst.max(judged);
    }
    bench.run_again("second eager", &first)?;
    bench.refuse_bad_data("eager, after bad data", &first)?;

    bench.runner.executable().capture()?;
    bench.run_again("recorded", &first)?;
    bench.check_state(CaptureState::Captured)?;
    bench.run_again("replayed", &first)?;
    bench.refuse_bad_data("replayed, after bad data", &first)?;
    bench.check_state(CaptureState::Captured)?;
    bench.runner.executable().release_capture();
    bench.check_state(CaptureState::Eager)?;
    bench.run_again("released", &first)?;
    bench.check_weights("after the runs")?;
    Ok(Trial::Passed(worst))
}

/// An executable with everything around it.
struct Bench<'a> {
    posed: &'a Posed,
    device: &'a dyn Device,
    plan: &'a Plan,
    runner: Runner,
    queue: Box<dyn Queue>,
    bindings: Bindings,
    /// The arena, where an input or output shows it.
    arena: Option<Arc<dyn Buffer>>,
}

impl<'a> Bench<'a> {
    fn new(posed: &'a Posed, device: &'a dyn Device, plan: &'a Arc<Plan>) -> Result<Self, Failure> {
        let mut bindings = Bindings::new();
        for slot in &plan.weights {
            let leaf = leaf(posed, &slot.name)?;
            // Half of the weights come with their owner: a device may then read them where they are.
            let owner = (plan.precision == Precision::Fast).then(|| -> Arc<dyn Any + Send + Sync> {
                Arc::new(Arc::clone(&leaf.bytes))
            });
            let source = WeightSource { bytes: &leaf.bytes, owner };
            bindings.insert(&slot.name, device.load_weight(slot, source)?);
        }
        for slot in &plan.states {
            bindings.insert(&slot.name, device.alloc(slot.bytes + GUARD.len() as u64, BufferUse::State)?);
        }
        let mut runner = Runner::new(device, plan, &bindings)?;
        let executable = runner.executable();
        let ins = (0..plan.inputs.len()).filter_map(|i| executable.input(i));
        let outs = (0..plan.outputs.len()).filter_map(|i| executable.output(i));
        let arena = ins.chain(outs).map(|slice| slice.buffer).find(|buffer| buffer.usage() == BufferUse::Arena);
        Ok(Self { posed, device, plan, runner, queue: device.queue()?, bindings, arena })
    }

    /// Everything as it is before a run: states and inputs written, all else poisoned.
    fn prepare(&mut self) -> Result<(), Failure> {
        if let Some(arena) = &self.arena {
            let slice = BufferSlice::whole(Arc::clone(arena));
            self.queue.upload(&slice, &poison(slice.bytes as usize))?;
        }
        for slot in &self.plan.states {
            let slice = self.state(&slot.name)?;
            let content = [&leaf(self.posed, &slot.name)?.bytes, GUARD.as_slice()].concat();
            self.queue.upload(&slice, &content)?;
        }
        for slot in &self.plan.inputs {
            self.runner.set(&slot.name, &leaf(self.posed, &slot.name)?.bytes)?;
        }
        Ok(())
    }

    /// A run from the start; the bytes of every answer.
    fn run(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        self.prepare()?;
        self.runner.run()?;
        self.check_guards()?;
        let posed = self.posed;
        posed.answers.iter().map(|answer| self.read(&answer.place)).collect()
    }

    fn read(&mut self, place: &Place) -> Result<Vec<u8>, Failure> {
        match place {
            Place::Output(name) => Ok(self.runner.get(name)?),
            Place::State(name) => {
                let slice = self.state(name)?;
                let mut bytes = vec![0; slice.bytes as usize - GUARD.len()];
                self.queue.download(&slice.range("", 0, bytes.len() as u64)?, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Another run must give the same bytes.
    fn run_again(&mut self, run: &'static str, first: &[Vec<u8>]) -> Result<(), Failure> {
        let again = self.run()?;
        for ((answer, a), b) in self.posed.answers.iter().zip(first).zip(&again) {
            if let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) {
                return Err(Misdeed::Unsteady { run, place: answer.place.clone(), byte }.into());
            }
        }
        Ok(())
    }

    /// Every bad input must be refused in the right words, and the executable must work after it.
    fn refuse_bad_data(&mut self, run: &'static str, first: &[Vec<u8>]) -> Result<(), Failure> {
        let posed = self.posed;
        for bad in &posed.bad_data {
            self.prepare()?;
            self.runner.set(&bad.leaf, &bad.bytes)?;
            let BadData { leaf, fault: expected, .. } = bad.clone();
            match self.runner.run() {
                Ok(()) => return Err(Misdeed::NotRefused { leaf, expected }.into()),
                Err(ExecError::Fault { op, fault, .. }) if op == posed.stem && same_fault(&fault, &expected) => {}
                Err(other) => {
                    let got = other.to_string();
                    return Err(Misdeed::OtherFault { leaf, expected, got }.into());
                }
            }
            self.run_again(run, first)?;
        }
        Ok(())
    }

    /// Nothing but values may have been written.
    fn check_guards(&mut self) -> Result<(), Failure> {
        if let Some(arena) = self.arena.clone() {
            let now = self.download(BufferSlice::whole(arena))?;
            let owned = owned_bytes(self.plan, now.len());
            let before = poison(now.len());
            let hit = (0..now.len()).find(|&i| !owned.get(i).copied().unwrap_or(true) && now.get(i) != before.get(i));
            if let Some(offset) = hit {
                return Err(Misdeed::ArenaHit { offset }.into());
            }
        }
        for (i, slot) in self.plan.inputs.iter().enumerate() {
            let Some(slice) = self.runner.executable().input(i) else { continue };
            let now = self.download(slice)?;
            let before = &leaf(self.posed, &slot.name)?.bytes;
            if let Some(byte) = now.iter().zip(before.iter()).position(|(a, b)| a != b) {
                return Err(Misdeed::InputWritten { name: slot.name.clone(), byte }.into());
            }
        }
        for slot in &self.plan.states {
            let all = self.download(self.state(&slot.name)?)?;
            let guard = all.get(all.len() - GUARD.len()..).unwrap_or_default();
            if let Some(offset) = guard.iter().zip(GUARD).position(|(a, b)| *a != b) {
                return Err(Misdeed::GuardHit { state: slot.name.clone(), offset }.into());
            }
        }
        Ok(())
    }

    /// Weights must read back as they came, whatever their form.
    fn check_weights(&self, when: &'static str) -> Result<(), Failure> {
        for slot in &self.plan.weights {
            let buffer = self.bindings.get(&slot.name).ok_or("a weight was not bound")?;
            if self.device.read_weight(slot, &**buffer)? != *leaf(self.posed, &slot.name)?.bytes {
                return Err(Misdeed::WeightChanged { name: slot.name.clone(), when }.into());
            }
        }
        Ok(())
    }

    fn check_state(&mut self, expected: CaptureState) -> Result<(), Failure> {
        let got = self.runner.executable().capture_state();
        if got == expected { Ok(()) } else { Err(Misdeed::CaptureState { expected, got }.into()) }
    }

    fn state(&self, name: &str) -> Result<BufferSlice, Failure> {
        let buffer = self.bindings.get(name).ok_or_else(|| format!("no state {name}"))?;
        Ok(BufferSlice::whole(Arc::clone(buffer)))
    }

    fn download(&mut self, slice: BufferSlice) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; slice.bytes as usize];
        self.queue.download(&slice, &mut bytes)?;
        Ok(bytes)
    }
}

fn leaf<'a>(posed: &'a Posed, name: &str) -> Result<&'a LeafData, Failure> {
    let found = posed.leaves.iter().find(|leaf| leaf.name == name);
    found.ok_or_else(|| format!("the problem has no data for {name}").into())
}

/// Which bytes of the arena belong to a value or to a kernel's working memory.
fn owned_bytes(plan: &Plan, n_bytes: usize) -> Vec<bool> {
    let places = plan.places.iter().filter(|place| matches!(place.region, Region::Arena(_)));
    let values = places.map(|place| (place.offset, place.bytes));
    let scratch = plan.steps.iter().map(|step| (step.scratch_offset, step.route.scratch_bytes));
    let mut owned = vec![false; n_bytes];
    for (offset, bytes) in values.chain(scratch) {
        let range = offset as usize..(offset + bytes) as usize;
        if let Some(part) = owned.get_mut(range) {
            part.fill(true);
        }
    }
    owned
}

/// The same fault, but for the row where it was met: of an id that several rows use, any may be told.
fn same_fault(got: &Fault, expected: &Fault) -> bool {
    match (got, expected) {
        (
            Fault::IndexOutOfRange { role, index, bound, .. },
            Fault::IndexOutOfRange { role: role_e, index: index_e, bound: bound_e, .. },
        ) => (role, index, bound) == (role_e, index_e, bound_e),
        _ => got == expected,
    }
}
