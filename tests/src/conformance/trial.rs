//! One problem on one device: planned, loaded, run eager and captured, with poison and guards around everything.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{
    Bindings, BufferSlice, BufferUse, CaptureState, Device, Precision, Queue, Runner, WeightSource,
};
use ggrs_core::plan::{Plan, PlanOptions, Region, plan};
use ggrs_core::{ExecError, PlanError};

use super::judge::judge;
use super::misdeed::{Misdeed, same_fault};
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

/// Runs a problem on a device, planned with these options.
///
/// Eager runs come first, then a captured one and its replays; each
/// starts from the same data in a poisoned arena and must give the same bytes. After each kind of run bad data is tried.
///
/// # Errors
/// The first thing that is wrong.
pub fn try_problem(
    posed: &Posed,
    device: &dyn Device,
    options: &PlanOptions,
) -> Result<Trial, Failure> {
    if !posed
        .graph
        .nodes()
        .iter()
        .any(|node| node.op.spec().stem() == posed.stem)
    {
        return Err(Misdeed::NotAboutItsOp.into());
    }
    let planned = match plan(&posed.graph, device, options) {
        Ok(planned) => Arc::new(planned),
        Err(PlanError::Unsupported { source, .. }) => {
            return Ok(Trial::Refused(source.to_string()));
        }
        Err(other) => return Err(other.into()),
    };
    let mut bench = Bench::new(posed, device, &planned)?;
    bench.check_weights("after loading")?;

    let mode = match options.precision {
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

/// What each output of a problem's graph holds after one run on a device, planned with these options.
///
/// # Errors
/// The problem does not run.
pub fn outputs(
    posed: &Posed,
    device: &dyn Device,
    options: &PlanOptions,
) -> Result<Vec<Vec<u8>>, Failure> {
    let planned = Arc::new(plan(&posed.graph, device, options)?);
    let mut bench = Bench::new(posed, device, &planned)?;
    bench.run()?;
    planned
        .outputs
        .iter()
        .map(|output| Ok(bench.runner.get(&output.name)?))
        .collect()
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
    arena: Option<BufferSlice>,
    /// What it holds before a run.
    poison: Vec<u8>,
    /// Which of its bytes belong to a value or to a kernel's working memory.
    owned: Vec<bool>,
}

impl<'a> Bench<'a> {
    fn new(posed: &'a Posed, device: &'a dyn Device, plan: &'a Arc<Plan>) -> Result<Self, Failure> {
        let mut bindings = Bindings::new();
        for slot in &plan.weights {
            let leaf = leaf(posed, &slot.name)?;
            // Half of the weights come with their owner: a device may then read them where they are.
            let owner = (plan.precision == Precision::Fast)
                .then(|| -> Arc<dyn Any + Send + Sync> { Arc::new(Arc::clone(&leaf.bytes)) });
            let source = WeightSource {
                bytes: &leaf.bytes,
                owner,
            };
            bindings.insert(&slot.name, device.load_weight(slot, source)?);
        }
        for slot in &plan.states {
            bindings.insert(
                &slot.name,
                device.alloc(slot.bytes + GUARD.len() as u64, BufferUse::State)?,
            );
        }
        let mut runner = Runner::new(device, plan, &bindings)?;
        let executable = runner.executable();
        let slots = plan.inputs.iter().chain(&plan.outputs);
        let arena = slots
            .filter_map(|slot| executable.value(slot.value))
            .map(|slice| slice.buffer)
            .find(|buffer| buffer.usage() == BufferUse::Arena);
        let arena = arena.map(BufferSlice::whole);
        let arena_bytes = arena.as_ref().map_or(0, |slice| slice.bytes as usize);
        let (poison, owned) = (poison(arena_bytes), owned_bytes(plan, arena_bytes));
        Ok(Self {
            posed,
            device,
            plan,
            runner,
            queue: device.queue()?,
            bindings,
            arena,
            poison,
            owned,
        })
    }

    /// Everything as it is before a run: states and inputs written, all else poisoned.
    fn prepare(&mut self) -> Result<(), Failure> {
        if let Some(arena) = &self.arena {
            self.queue.upload(arena, &self.poison)?;
        }
        for slot in &self.plan.states {
            let slice = self.state(&slot.name)?;
            let content = [&leaf(self.posed, &slot.name)?.bytes, GUARD.as_slice()].concat();
            self.queue.upload(&slice, &content)?;
        }
        for slot in &self.plan.inputs {
            self.runner
                .set(&slot.name, &leaf(self.posed, &slot.name)?.bytes)?;
        }
        Ok(())
    }

    /// A run from the start; the bytes of every answer.
    fn run(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        self.prepare()?;
        self.runner.run()?;
        self.check_guards()?;
        let posed = self.posed;
        posed
            .answers
            .iter()
            .map(|answer| self.read(&answer.place))
            .collect()
    }

    fn read(&mut self, place: &Place) -> Result<Vec<u8>, Failure> {
        match place {
            Place::Output(name) => Ok(self.runner.get(name)?),
            Place::State(name) => {
                let slice = self.state(name)?;
                let mut bytes = vec![0; slice.bytes as usize - GUARD.len()];
                self.queue
                    .download(&slice.range("", 0, bytes.len() as u64)?, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Another run must give the same bytes.
    fn run_again(&mut self, run: &'static str, first: &[Vec<u8>]) -> Result<(), Failure> {
        let again = self.run()?;
        for ((answer, a), b) in self.posed.answers.iter().zip(first).zip(&again) {
            if let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) {
                return Err(Misdeed::Unsteady {
                    run,
                    place: answer.place.clone(),
                    byte,
                }
                .into());
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
            let BadData {
                leaf,
                fault: expected,
                ..
            } = bad.clone();
            match self.runner.run() {
                Ok(()) => return Err(Misdeed::NotRefused { leaf, expected }.into()),
                Err(ExecError::Fault { op, fault, .. })
                    if op == posed.stem && same_fault(&fault, &expected) => {}
                Err(other) => {
                    let got = other.to_string();
                    return Err(Misdeed::OtherFault {
                        leaf,
                        expected,
                        got,
                    }
                    .into());
                }
            }
            self.run_again(run, first)?;
        }
        Ok(())
    }

    /// Nothing but values may have been written.
    fn check_guards(&mut self) -> Result<(), Failure> {
        if let Some(arena) = self.arena.clone() {
            let now = self.download(arena)?;
            let mut bytes = now.iter().zip(&self.poison).zip(&self.owned);
            if let Some(offset) = bytes.position(|((now, before), owned)| !owned && now != before) {
                return Err(Misdeed::ArenaHit { offset }.into());
            }
        }
        for slot in &self.plan.inputs {
            let Some(slice) = self.runner.executable().value(slot.value) else {
                continue;
            };
            let now = self.download(slice)?;
            let before = &leaf(self.posed, &slot.name)?.bytes;
            if let Some(byte) = now.iter().zip(before.iter()).position(|(a, b)| a != b) {
                return Err(Misdeed::InputWritten {
                    name: slot.name.clone(),
                    byte,
                }
                .into());
            }
        }
        for slot in &self.plan.states {
            let all = self.download(self.state(&slot.name)?)?;
            let guard = all.get(all.len() - GUARD.len()..).unwrap_or_default();
            if let Some(offset) = guard.iter().zip(GUARD).position(|(a, b)| *a != b) {
                return Err(Misdeed::GuardHit {
                    state: slot.name.clone(),
                    offset,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Weights must read back as they came, whatever their form.
    fn check_weights(&self, when: &'static str) -> Result<(), Failure> {
        for slot in &self.plan.weights {
            let buffer = self
                .bindings
                .get(&slot.name)
                .ok_or("a weight was not bound")?;
            if self.device.read_weight(slot, &**buffer)? != *leaf(self.posed, &slot.name)?.bytes {
                return Err(Misdeed::WeightChanged {
                    name: slot.name.clone(),
                    when,
                }
                .into());
            }
        }
        Ok(())
    }

    fn check_state(&mut self, expected: CaptureState) -> Result<(), Failure> {
        let got = self.runner.executable().capture_state();
        if got == expected {
            Ok(())
        } else {
            Err(Misdeed::CaptureState { expected, got }.into())
        }
    }

    fn state(&self, name: &str) -> Result<BufferSlice, Failure> {
        let buffer = self
            .bindings
            .get(name)
            .ok_or_else(|| format!("no state {name}"))?;
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
    let places = plan
        .places
        .iter()
        .filter(|place| matches!(place.region, Region::Arena(_)));
    let values = places.map(|place| (place.offset, place.bytes));
    let scratch = plan
        .steps
        .iter()
        .map(|step| (step.scratch_offset, step.route.scratch_bytes));
    let mut owned = vec![false; n_bytes];
    for (offset, bytes) in values.chain(scratch) {
        let range = offset as usize..(offset + bytes) as usize;
        if let Some(part) = owned.get_mut(range) {
            part.fill(true);
        }
    }
    owned
}

#[cfg(test)]
mod tests {
    use ggrs_core::device::null::NullDevice;
    use ggrs_core::ops::Scale;
    use ggrs_core::{DType, GraphError, Real};

    use super::*;
    use crate::problem::{Problem, Scene, Tolerance, operand, pose};

    /// A problem that a device may fail in several ways.
    #[derive(Debug)]
    struct Doubled(&'static str);

    impl Problem for Doubled {
        fn stem(&self) -> &'static str {
            self.0
        }

        fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
            let x = scene.input(&operand(DType::F32, [3, 5])).normals(1.0)?;
            let y = scene.apply(
                Scale {
                    scale: Real(2.0),
                    bias: Real(0.0),
                },
                &[&x],
            )?;
            scene.expect(y, Tolerance::of("scale", DType::F32), || {
                x.floats().map(|v| 2.0 * v)
            })
        }
    }

    #[test]
    fn a_device_that_computes_nothing_does_not_pass() {
        let device = NullDevice::new("null".parse().unwrap(), 1 << 20);
        let tried = try_problem(
            &pose(&Doubled("scale"), true).unwrap(),
            &device,
            &PlanOptions::default(),
        );
        assert!(tried.is_err(), "{tried:?}");
        let tried = try_problem(
            &pose(&Doubled("add"), true).unwrap(),
            &device,
            &PlanOptions::default(),
        );
        assert_eq!(
            tried.unwrap_err().to_string(),
            Misdeed::NotAboutItsOp.to_string()
        );
    }
}
