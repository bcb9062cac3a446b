//! State files: a slot goes on bit for bit in any session of the model, and a file that is wrong in any way is refused
//! by name while the session stays what it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::{Logits, Model, Session, SessionError, SessionOptions, SlotId, StateFileError};
use ggrs_sched::Placement;
use ggrs_tests::fake::{FakeWorld, FaultKind, Point};
use ggrs_tests::fixtures::fixture_path;
use ggrs_tests::placed::{by_layer, by_tensor, cpu_members, load, nmse};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const DEMO: &str = "../../ggrs-cli/assets/demo-q8_0.gguf";
const FIXTURE: &str = "qwen3moe/small-f32.gguf";
const PROMPT: [u32; 9] = [3, 141, 59, 26, 53, 58, 97, 93, 23];

fn model(fixture: &str) -> Arc<Model> {
    load(fixture, cpu_members(1).remove(0), Precision::Fast)
}

fn open(model: &Arc<Model>, n_slots: usize, n_ctx: usize, kv_dtype: DType) -> Session {
    let options = SessionOptions {
        n_slots,
        n_ctx: Some(n_ctx),
        n_batch: 64,
        kv_dtype,
        prompt_cache_bytes: 0,
    };
    Session::new(model, &options).expect("the session opens")
}

fn long_prompt(model: &Model, n: u32) -> Vec<u32> {
    let n_vocab = model.architecture().n_vocab() as u32;
    (0..n).map(|i| (i * i * 7 + i * 13 + 5) % n_vocab).collect()
}

/// The logits of some tokens, one after another.
fn go_on(session: &mut Session, slot: SlotId) -> Vec<Vec<f32>> {
    let mut slot = session.slot(slot).unwrap();
    [5, 90, 17, 60]
        .map(|t| slot.feed(&[t], Logits::Last).unwrap())
        .into()
}

/// A folder and a file in it with the state of [`PROMPT`].
fn saved(model: &Arc<Model>, kv_dtype: DType) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot.state");
    let mut session = open(model, 1, 64, kv_dtype);
    session.feed(&PROMPT, Logits::Last).unwrap();
    session.slot(SlotId(0)).unwrap().save_state(&path).unwrap();
    (folder, path)
}

fn refusal(session: &mut Session, path: &Path) -> StateFileError {
    match session.slot(SlotId(0)).unwrap().load_state(path) {
        Err(SessionError::StateFile(error)) => error,
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn a_slot_goes_on_bit_for_bit_in_another_session() {
    let folder = tempfile::tempdir().unwrap();
    for fixture in [DEMO, FIXTURE] {
        let model = model(fixture);
        let prompt = long_prompt(&model, 150);
        for kv in [
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::Q8_0,
            DType::Q4_0,
        ] {
            let path = folder.path().join(format!("{kv}.state"));
            let mut first = open(&model, 1, 256, kv);
            first.feed(&prompt, Logits::Last).unwrap();
            first.slot(SlotId(0)).unwrap().save_state(&path).unwrap();
            let expected = go_on(&mut first, SlotId(0));

            // A session of another size, whose last slot holds pages here and there and other tokens.
            let mut second = open(&model, 3, 192, kv);
            for _ in 0..2 {
                for slot in [0, 2, 1] {
                    let mut slot = second.slot(SlotId(slot)).unwrap();
                    slot.feed(&long_prompt(&model, 70), Logits::Last).unwrap();
                }
            }
            second.slot(SlotId(0)).unwrap().truncate(10);
            let mut slot = second.slot(SlotId(2)).unwrap();
            slot.load_state(&path).unwrap();
            assert_eq!(slot.tokens(), prompt);
            let actual = go_on(&mut second, SlotId(2));
            assert!(
                actual == expected,
                "{fixture}, {kv}: other logits after the restore"
            );
            // The file does not say where the slot was.
            let again = folder.path().join("again.state");
            let mut slot = second.slot(SlotId(2)).unwrap();
            slot.truncate(prompt.len());
            slot.save_state(&again).unwrap();
            assert!(
                fs::read(&path).unwrap() == fs::read(&again).unwrap(),
                "{fixture}, {kv}"
            );
        }
    }
}

/// Saved under one placement and loaded under another, the rows are the same to the last bit.
#[test]
fn a_state_does_not_know_the_devices_it_was_saved_on() {
    let tensors = |n, shares: &[f64]| by_tensor(n, shares).placement().unwrap();
    let placements: [(&str, Placement); 5] = [
        ("one device", cpu_members(1).remove(0).into()),
        ("layers over 3", by_layer(cpu_members(3))),
        ("tensors over 2 as 3:1", tensors(2, &[3.0, 1.0])),
        ("tensors over 2 as 0:1", tensors(2, &[0.0, 1.0])),
        ("tensors over 3", tensors(3, &[])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (
        folder.path().join("slot.state"),
        folder.path().join("again.state"),
    );
    let models =
        placements.map(|(name, placement)| (name, load(FIXTURE, placement, Precision::Exact)));
    let prompt = long_prompt(&models[0].1, 100);
    let mut alone = open(&models[0].1, 1, 128, DType::F32);
    alone.feed(&prompt, Logits::Last).unwrap();
    let expected = go_on(&mut alone, SlotId(0)).concat();
    for (from, first) in &models {
        let mut first = open(first, 1, 128, DType::F32);
        first.feed(&prompt, Logits::Last).unwrap();
        first.slot(SlotId(0)).unwrap().save_state(&path).unwrap();
        for (to, second) in &models {
            let mut second = open(second, 2, 192, DType::F32);
            let mut slot = second.slot(SlotId(1)).unwrap();
            slot.load_state(&path).unwrap();
            slot.save_state(&again).unwrap();
            assert!(
                fs::read(&path).unwrap() == fs::read(&again).unwrap(),
                "{from} -> {to}: other rows"
            );
            let error = nmse(&go_on(&mut second, SlotId(1)).concat(), &expected);
            assert!(error < 1e-10, "{from} -> {to}: NMSE {error:e}");
        }
    }
}

#[test]
fn an_empty_slot_and_a_full_one_are_states_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot.state");
    let model = model(FIXTURE);
    let mut session = open(&model, 2, 65, DType::F16);
    session.slot(SlotId(1)).unwrap().save_state(&path).unwrap();
    session.feed(&PROMPT, Logits::Last).unwrap();
    session.slot(SlotId(0)).unwrap().load_state(&path).unwrap();
    assert!(session.tokens().is_empty());
    let full = long_prompt(&model, 65);
    session.feed(&full, Logits::Last).unwrap();
    session.slot(SlotId(0)).unwrap().save_state(&path).unwrap();
    session.slot(SlotId(1)).unwrap().load_state(&path).unwrap();
    assert_eq!(session.slot(SlotId(1)).unwrap().tokens(), full);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let model = model(FIXTURE);
    let (folder, path) = saved(&model, DType::Q8_0);
    let whole = fs::read(&path).unwrap();
    let mut session = open(&model, 1, 64, DType::Q8_0);
    session.feed(&[1, 2], Logits::Last).unwrap();
    let bad = folder.path().join("bad.state");
    let session = RefCell::new(session);
    let refused = |bytes: &[u8]| {
        let mut session = session.borrow_mut();
        fs::write(&bad, bytes).unwrap();
        let error = refusal(&mut session, &bad);
        assert!(error.to_string().contains("bad.state: "), "{error}");
        assert_eq!(session.tokens(), [1, 2], "{error}");
        error
    };
    // Each bit of the first bytes, which are read before the checksum; then bits anywhere, and cuts anywhere.
    for bit in 0..28 * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = refused(&bytes);
        let expected = match bit / 8 {
            0..8 => matches!(error, StateFileError::NotAStateFile { .. }),
            8..12 => matches!(error, StateFileError::Version { supported: 1, .. }),
            12..20 => matches!(error, StateFileError::Length { .. }),
            _ => matches!(error, StateFileError::Checksum { .. }),
        };
        assert!(expected, "bit {bit}: {error}");
    }
    let mut runner = TestRunner::default();
    let n = whole.len();
    runner
        .run(&(28..n, 0u8..8, 0..n), |(byte, bit, end)| {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << bit;
            let flipped = refused(&bytes);
            let is_found = matches!(flipped, StateFileError::Checksum { .. });
            prop_assert!(is_found, "bit {} of byte {}: {}", bit, byte, flipped);
            let cut = refused(&whole[..end]);
            prop_assert!(
                matches!(cut, StateFileError::Length { .. }) || end == 0,
                "cut at {}: {}",
                end,
                cut
            );
            Ok(())
        })
        .unwrap();
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(refused(&longer), StateFileError::Length { .. }));
    // The session is what it was, and the file itself still good.
    let mut session = session.into_inner();
    let mut fresh = open(&model, 1, 64, DType::Q8_0);
    fresh.feed(&[1, 2], Logits::Last).unwrap();
    assert!(go_on(&mut session, SlotId(0)) == go_on(&mut fresh, SlotId(0)));
    session.slot(SlotId(0)).unwrap().load_state(&path).unwrap();
    assert_eq!(session.tokens(), PROMPT);
}

#[test]
fn a_file_that_does_not_belong_here_is_refused_by_name() {
    let model = model(FIXTURE);
    let (folder, path) = saved(&model, DType::F16);
    let is = |session: &mut Session, path: &Path, start: &str, end: &str| {
        let text = refusal(session, path).to_string();
        let text = text
            .strip_prefix(&format!("{}: ", path.display()))
            .unwrap_or("");
        assert!(text.starts_with(start) && text.ends_with(end), "{text}");
        assert!(session.tokens().is_empty());
    };
    let mut session = open(&model, 1, 64, DType::F16);
    let gguf = fixture_path(FIXTURE);
    is(
        &mut session,
        &gguf,
        "not a state file of GGRS: it begins with \"GGUF",
        "not with \"GGRSSLOT\"",
    );
    let gone = folder.path().join("gone.state");
    is(
        &mut session,
        &gone,
        "the state cannot be read at offset 0",
        "",
    );
    // Another model, and another file of the same model: other weights, other numbers.
    for (fixture, name) in [
        (DEMO, "qwen3moe "),
        ("qwen3moe/small-q8_0.gguf", "qwen3moe "),
    ] {
        let mut foreign = open(&self::model(fixture), 1, 64, DType::F16);
        is(
            &mut foreign,
            &path,
            &format!("the state is of model {name}"),
            "load that model",
        );
    }
    is(
        &mut open(&model, 1, 64, DType::Q8_0),
        &path,
        "\"kv.0.k\" is kept as F16 in the file and as Q8_0 in the session",
        "(--kv-type f16)",
    );
    is(
        &mut open(&model, 1, 8, DType::F16),
        &path,
        "the state has 9 tokens, the context holds 8",
        "(--ctx)",
    );
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_one_before() {
    let model = model(FIXTURE);
    let (folder, path) = saved(&model, DType::F16);
    let before = fs::read(&path).unwrap();
    let mut session = open(&model, 1, 64, DType::F16);
    session.feed(&[1], Logits::Last).unwrap();
    let mut slot = session.slot(SlotId(0)).unwrap();
    let nowhere = folder.path().join("no folder").join("x.state");
    let error = slot.save_state(&nowhere).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: the state cannot be written", nowhere.display())
    );
    assert!(slot.save_state("..").is_err() && slot.save_state(folder.path()).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["slot.state"]);
    assert_eq!(slot.tokens(), [1]);
}

/// A device that fails while rows are read or written: a named error; the slot is as documented and goes on.
#[test]
fn a_device_that_fails_midway_leaves_a_slot_that_works() {
    let world = FakeWorld::uniform(1).unwrap();
    let model = load(FIXTURE, world.open(0).unwrap(), Precision::Exact);
    let (folder, path) = saved(&model, DType::F16);
    let n_states = 2 * model.architecture().n_layers() as u64;
    let mut fresh = open(&model, 1, 64, DType::F16);
    fresh.feed(&[1, 2], Logits::Last).unwrap();
    let expected = go_on(&mut fresh, SlotId(0));

    let mut session = open(&model, 1, 64, DType::F16);
    for (point, load) in [(Point::Upload, true), (Point::Download, false)] {
        for n in 0..n_states {
            session.truncate(0);
            session.feed(&[1, 2], Logits::Last).unwrap();
            world.restart_counts();
            world.fail_at(point, n, FaultKind::Timeout);
            let mut slot = session.slot(SlotId(0)).unwrap();
            let unwritten = folder.path().join("unwritten.state");
            let (done, left): (_, &[u32]) = if load {
                (slot.load_state(&path), &[])
            } else {
                (slot.save_state(&unwritten), &[1, 2])
            };
            assert!(
                matches!(done, Err(SessionError::Exec(_))),
                "{point} {n}: {done:?}"
            );
            assert_eq!(world.fired().len(), 1, "{point} {n}");
            assert!(!unwritten.exists());
            assert_eq!(slot.tokens(), left, "{point} {n}");
            slot.truncate(0);
            slot.feed(&[1, 2], Logits::Last).unwrap();
            assert!(go_on(&mut session, SlotId(0)) == expected, "{point} {n}");
        }
    }
    world.audit().unwrap();
}
