//! A model's whole life (load, open, prefill, decode, save, restore) on fake devices, with every event of every device
//! failing once in every way: a typed error, nothing left behind, and what the session was before still there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, which say what they cover"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use ggrs_core::device::{Device, Precision};
use ggrs_core::{DType, DeviceError};
use ggrs_meta::{HostTransport, MetaDevice, MetaOptions};
use ggrs_model::sampling::{Sampler, SamplerConfig};
use ggrs_model::{
    LoadOptions, Logits, Model, ModelError, Session, SessionError, SessionOptions, SlotId,
};
use ggrs_sched::Placement;
use ggrs_tests::fake::{FakeWorld, Fault, FaultKind, FaultyTransport, Point, device_error};
use ggrs_tests::fixtures::fixture_path;
use ggrs_tests::placed::{argmax, by_layer, cpu_members, nmse};

const FIXTURE: &str = "qwen3moe/small-f32.gguf";
/// Two steps: sessions here take four tokens at a time.
const PROMPT: [u32; 5] = [3, 141, 59, 26, 53];
const N_DECODE: usize = 2;
const FIRST: SlotId = SlotId(0);
const SECOND: SlotId = SlotId(1);
/// How long members may take between two exchanges.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a life may take: long, since it waits for a busy disk when it saves.
const WATCHDOG: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug)]
enum Layout {
    One,
    Layers,
    Tensors,
}

impl Layout {
    fn placement(self, devices: &[Arc<dyn Device>]) -> Placement {
        let devices = devices.to_vec();
        match self {
            Self::One => Placement::on(Arc::clone(&devices[0])),
            Self::Layers => by_layer(devices),
            Self::Tensors => {
                let transport = Arc::new(FaultyTransport::new(HostTransport));
                let options = MetaOptions::default();
                let joined = MetaDevice::with_transport(devices, options, transport, PATIENCE);
                Placement::on(joined.expect("members become one"))
            }
        }
    }
}

fn load(placement: &Placement) -> Result<Arc<Model>, ModelError> {
    let options = LoadOptions {
        precision: Precision::Exact,
        ..LoadOptions::default()
    };
    Model::load(
        fixture_path(FIXTURE),
        placement.clone(),
        options,
        &mut |_, _| {},
    )
}

fn open(model: &Arc<Model>) -> Result<Session, SessionError> {
    let options = SessionOptions {
        n_slots: 2,
        n_ctx: Some(64),
        n_batch: 4,
        kv_dtype: DType::F32,
        prompt_cache_bytes: 0,
    };
    Session::new(model, &options)
}

fn tokens(session: &mut Session, slot: SlotId) -> Vec<u32> {
    session.slot(slot).unwrap().tokens().to_vec()
}

/// Logits of the prompt and of greedy tokens after it, and the tokens.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    logits: Vec<Vec<f32>>,
    tokens: Vec<u32>,
}

impl Answer {
    fn take(&mut self, logits: Vec<f32>) {
        self.tokens.push(argmax(&logits));
        self.logits.push(logits);
    }

    fn last(&self) -> u32 {
        *self.tokens.last().expect("after the prompt")
    }

    /// In a new session, which nothing disturbs.
    fn of(model: &Arc<Model>) -> Self {
        let mut answer = Self::default();
        let mut session = open(model).expect("a new session opens");
        answer.take(
            session
                .feed(&PROMPT, Logits::Last)
                .expect("the prompt runs"),
        );
        for _ in 0..=N_DECODE {
            let next = [answer.last()];
            answer.take(session.feed(&next, Logits::Last).expect("a step runs"));
        }
        answer
    }

    fn is_that_of(&self, other: &Self) {
        assert_eq!(self.tokens, other.tokens);
        let error = nmse(&self.logits.concat(), &other.logits.concat());
        assert!(error < 1e-10, "NMSE {error:e}");
    }
}

/// What a device said in which call.
#[derive(Debug)]
struct Failure {
    during: &'static str,
    error: DeviceError,
}

/// What came of a life.
#[derive(Default)]
struct Life {
    failures: Vec<Failure>,
    model: Option<Arc<Model>>,
    /// If it came to its end.
    answer: Option<Answer>,
}

impl Life {
    /// Does something. If a device fails, `left` looks at what is left; then the same is done again, which must work
    /// unless the device is lost.
    fn attempt<S, T, E: Error + 'static>(
        &mut self,
        during: &'static str,
        on: &mut S,
        call: impl Fn(&mut S) -> Result<T, E>,
        left: impl Fn(&mut S),
    ) -> Option<T> {
        let failure = |error: E| {
            let found = device_error(&error).cloned();
            found.unwrap_or_else(|| panic!("{during}: no device's error is behind {error:?}"))
        };
        let error = match call(on) {
            Ok(done) => return Some(done),
            Err(error) => failure(error),
        };
        left(on);
        let is_lost = matches!(error, DeviceError::Lost { .. });
        self.failures.push(Failure { during, error });
        match call(on) {
            Ok(done) if !is_lost => Some(done),
            Err(error) if is_lost => {
                let error = failure(error);
                assert!(
                    matches!(error, DeviceError::Lost { .. }),
                    "{during}, again: {error}"
                );
                left(on);
                None
            }
            Ok(_) => panic!("{during}: it works although its device is lost"),
            Err(error) => panic!("{during}, again: {error:?}"),
        }
    }

    /// From the file to a restored slot. `None` if a device was lost on the way.
    fn run(&mut self, placement: &Placement, state: &Path) -> Option<()> {
        let mut answer = Answer::default();
        let model = self.attempt("load", &mut (), |()| load(placement), |()| {})?;
        self.model = Some(Arc::clone(&model));
        let mut session = self.attempt("open", &mut (), |()| open(&model), |()| {})?;
        let session = &mut session;
        let mut held = Vec::new();
        for _ in 0..=N_DECODE {
            let next = if held.is_empty() {
                PROMPT.to_vec()
            } else {
                vec![answer.last()]
            };
            let during = if held.is_empty() { "prefill" } else { "decode" };
            let feed = |s: &mut Session| s.feed(&next, Logits::Last);
            let same = |s: &mut Session| assert_eq!(s.tokens(), held, "{during}");
            answer.take(self.attempt(during, session, feed, same)?);
            held.extend_from_slice(&next);
        }

        let save = |s: &mut Session| s.slot(FIRST)?.save_state(state);
        let unsaved = |s: &mut Session| {
            assert_eq!(s.tokens(), held);
            let folder = fs::read_dir(state.parent().unwrap()).unwrap();
            assert_eq!(folder.count(), 0, "save: a file is left behind");
        };
        self.attempt("save", session, save, unsaved)?;
        let other = |s: &mut Session| s.slot(SECOND)?.feed(&[7], Logits::Last);
        let untouched = |s: &mut Session| {
            assert_eq!(
                (tokens(s, FIRST), tokens(s, SECOND)),
                (held.clone(), vec![])
            );
        };
        self.attempt("another slot", session, other, untouched)?;
        let saved = fs::read(state).unwrap();
        let restore = |s: &mut Session| s.slot(SECOND)?.load_state(state);
        let unrestored = |s: &mut Session| {
            untouched(s);
            assert!(
                fs::read(state).unwrap() == saved,
                "restore: the file has changed"
            );
        };
        self.attempt("restore", session, restore, unrestored)?;

        let next = [answer.last()];
        let go_on = |slot| move |s: &mut Session| s.slot(slot)?.feed(&next, Logits::Last);
        let second = self.attempt("the restored slot", session, go_on(SECOND), |s| {
            assert_eq!(
                (tokens(s, FIRST), tokens(s, SECOND)),
                (held.clone(), held.clone())
            );
        })?;
        let first = self.attempt("the saved slot", session, go_on(FIRST), |s| {
            assert_eq!(tokens(s, FIRST), held);
        })?;
        assert!(
            first == second,
            "the restored slot goes on otherwise than the saved one"
        );
        let by_itself = |s: &mut Session| {
            let mut greedy = Sampler::new(SamplerConfig::default(), 0).unwrap();
            s.slot(SECOND)?.decode(argmax(&first), &mut greedy)
        };
        let chosen = self.attempt("a step by itself", session, by_itself, |s| {
            assert_eq!(tokens(s, SECOND), [&held[..], &next].concat());
        })?;
        let fed = |s: &mut Session| s.slot(FIRST)?.feed(&[argmax(&first)], Logits::Last);
        let fed = self.attempt("the saved slot", session, fed, |_| {})?;
        assert_eq!(chosen, argmax(&fed), "the device chooses another token");
        answer.take(first);
        self.answer = Some(answer);
        Some(())
    }
}

/// Runs something on a thread of its own and waits for it, but not for ever.
fn guarded<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let worker = thread::spawn(move || {
        let _ = done.send(work());
    });
    match wait.recv_timeout(WATCHDOG) {
        Ok(result) => {
            worker.join().expect("it is done");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: still not done after {WATCHDOG:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what}: it panicked"),
    }
}

/// A layout over the devices of a world, and what it answers.
#[derive(Clone)]
struct Stage {
    layout: Layout,
    world: FakeWorld,
    devices: Vec<Arc<dyn Device>>,
    expected: Answer,
    state: PathBuf,
}

impl Stage {
    fn life(&self) -> Life {
        let mut life = Life::default();
        life.run(&self.layout.placement(&self.devices), &self.state);
        if self.state.exists() {
            fs::remove_file(&self.state).unwrap();
        }
        life
    }

    /// A life with a fault; returns in which call it was.
    fn fails(&self, fault: Fault) -> &'static str {
        self.world.restart_counts();
        self.world.inject(fault);
        let life = self.life();
        assert_eq!(self.world.fired(), [fault]);
        let [Failure { during, error }] = &life.failures[..] else {
            panic!("one fault, these failures: {:?}", life.failures);
        };
        let (device, kind) = match error {
            DeviceError::OutOfMemory { device, .. } => (device, FaultKind::OutOfMemory),
            DeviceError::Lost { device, .. } => (device, FaultKind::Lost),
            DeviceError::Timeout { device, .. } => (device, FaultKind::Timeout),
            other => panic!("{other}"),
        };
        let failed = fault.device.expect("a device");
        assert_eq!((device, kind), (&format!("fake:{failed}"), fault.kind));

        if kind == FaultKind::Lost {
            assert!(life.answer.is_none());
            drop(life.model);
            self.world.assert_no_leaks();
            let mut left = self.devices.clone();
            left.remove(failed);
            if left.is_empty() {
                self.world.revive(failed);
                left = self.devices.clone();
            }
            let model = load(&self.layout.placement(&left)).expect("the others can do it");
            Answer::of(&model).is_that_of(&self.expected);
            self.world.revive(failed);
        } else {
            // On the same session, to the last bit.
            assert!(
                life.answer.as_ref() == Some(&self.expected),
                "another answer"
            );
            let model = life.model.expect("the life came to its end");
            assert!(
                Answer::of(&model) == self.expected,
                "another answer in a new session"
            );
        }
        self.world.assert_no_leaks();
        during
    }
}

/// In which ways each event fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kinds {
    /// In every way, each in a life of its own.
    All,
    /// In one way, the next event in the next.
    InTurn,
}

fn sweep(layout: Layout, n_devices: usize, kinds_of: Kinds) {
    let world = FakeWorld::uniform(n_devices).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage {
        layout,
        devices: world.open_all().unwrap(),
        world,
        expected: Answer::default(),
        state: folder.path().join("slot.state"),
    };
    let world = stage.world.clone();
    let rehearsal = stage.life();
    assert!(rehearsal.failures.is_empty(), "{:?}", rehearsal.failures);
    stage.expected = rehearsal.answer.expect("a whole life");
    drop(rehearsal.model);
    world.assert_no_leaks();
    let real = load(&Placement::on(cpu_members(1).remove(0))).unwrap();
    stage.expected.is_that_of(&Answer::of(&real));

    let mut faults = Vec::new();
    for point in Point::ALL {
        let counts: Vec<u64> = (0..n_devices)
            .map(|device| world.tally(device, point).events)
            .collect();
        println!("{layout:?}, {point}: events by device {counts:?}, kinds of fault: {kinds_of:?}");
        for (device, count) in counts.into_iter().enumerate() {
            for (nth, turn) in (0..count).zip(FaultKind::ALL.into_iter().cycle()) {
                let kinds = FaultKind::ALL.into_iter();
                let kinds = kinds.filter(|kind| kinds_of == Kinds::All || *kind == turn);
                faults.extend(kinds.map(|kind| Fault {
                    device: Some(device),
                    point,
                    nth,
                    kind,
                }));
            }
        }
    }
    let mut during: Vec<(&str, usize)> = Vec::new();
    for fault in faults {
        let stage = stage.clone();
        let call = guarded(&format!("{layout:?}, {fault:?}"), move || {
            stage.fails(fault)
        });
        match during.iter_mut().find(|(name, _)| *name == call) {
            Some((_, n)) => *n += 1,
            None => during.push((call, 1)),
        }
    }
    println!("{layout:?}: faults by call {during:?}");
    let calls = [
        "load",
        "open",
        "prefill",
        "decode",
        "save",
        "another slot",
        "restore",
        "the restored slot",
        "the saved slot",
        "a step by itself",
    ];
    for call in calls {
        assert!(
            during.iter().any(|(name, _)| *name == call),
            "no fault in: {call}"
        );
    }
    world.audit().unwrap();
    world.assert_no_leaks();
}

#[test]
fn every_fault_on_one_device_is_survived() {
    sweep(Layout::One, 1, Kinds::All);
}

#[test]
fn every_fault_with_layers_over_two_devices_is_survived() {
    sweep(Layout::Layers, 2, Kinds::All);
}

#[test]
fn every_fault_with_tensors_over_two_members_is_survived() {
    sweep(Layout::Tensors, 2, Kinds::InTurn);
}
