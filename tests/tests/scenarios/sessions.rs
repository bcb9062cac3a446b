//! Sessions under tensor split: slots saved and restored, checkpoints, long runs.

use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::{Device, Precision};
use ggrs_model::{Checkpoint, Logits, Model, Session, SessionOptions, SlotId};
use ggrs_sched::Placement;
use ggrs_tests::fake::{FakeWorld, Point};
use ggrs_tests::placed::{argmax, cpu_members, load, nmse};

use crate::joined::{cpu_split, load_split, split_over};

const DEMO: &str = "demo/demo-q4_k_m.gguf";
const SMALL: &str = "qwen3moe/small-f32.gguf";
/// Tokens of both models' vocabularies.
const N_TOKENS: u32 = 400;

/// Tokens that repeat nothing soon.
fn prompt(n: u32, seed: u32) -> Vec<u32> {
    (0..n)
        .map(|i| (i * i + 7 * i + 31 * seed) % N_TOKENS)
        .collect()
}

fn session(model: &Arc<Model>, n_ctx: usize, n_slots: usize) -> Session {
    let options = SessionOptions {
        n_slots,
        n_ctx: Some(n_ctx),
        n_batch: 256,
        kv_dtype: DType::F32,
        prompt_cache_bytes: 64 << 20,
    };
    Session::new(model, &options).expect("the session opens")
}

/// Greedy tokens after logits, with the logits of each step.
fn greedy(session: &mut Session, slot: SlotId, logits: &[f32], n: usize) -> (Vec<u32>, Vec<f32>) {
    let mut next = argmax(logits);
    let (mut tokens, mut all) = (Vec::new(), Vec::new());
    for _ in 0..n {
        tokens.push(next);
        let logits = session
            .slot(slot)
            .unwrap()
            .feed(&[next], Logits::Last)
            .unwrap();
        next = argmax(&logits);
        all.extend(logits);
    }
    (tokens, all)
}

/// Any request, then the idle slot is saved: the peer's partial read of a split cache aborts. In GGRS the slot's rows
/// go to the prompt cache and come back, bit for bit.
#[test]
fn i22307_idle_slot_save_right_after_a_request() {
    for (fixture, ratios) in [(SMALL, &[][..]), (SMALL, &[3.0, 1.0]), (DEMO, &[])] {
        let model = load_split(fixture, cpu_split(2, ratios), Precision::Exact);
        let mut session = session(&model, 256, 1);
        let first = prompt(70, 1);
        let slot = session.acquire(&first).unwrap();
        let logits = session
            .slot(slot)
            .unwrap()
            .prefill(&first, &mut |_| {})
            .unwrap();
        let (answer, expected) = greedy(&mut session, slot, &logits, 6);
        // Back to where the answer began, as a request that ends.
        session.slot(slot).unwrap().truncate(first.len());
        session.release(slot).unwrap();
        session.save_to_prompt_cache(slot).unwrap();
        let cached: Vec<Vec<u32>> = session
            .prompt_cache()
            .prompts()
            .map(<[u32]>::to_vec)
            .collect();
        assert_eq!(cached, std::slice::from_ref(&first));
        assert!(
            session.prompt_cache().bytes() > 70 * 4,
            "tokens and their rows"
        );

        // Another request takes the only slot and writes over its cells.
        let other = prompt(90, 2);
        let slot = session.acquire(&other).unwrap();
        session
            .slot(slot)
            .unwrap()
            .prefill(&other, &mut |_| {})
            .unwrap();
        session.release(slot).unwrap();

        // The first one comes back: all of its prompt is there.
        let again: Vec<u32> = first.iter().chain(&answer).copied().collect();
        let slot = session.acquire(&again).unwrap();
        assert_eq!(session.slot(slot).unwrap().tokens(), first, "{fixture}");
        let mut logits = Vec::new();
        for token in &answer {
            let step = session.slot(slot).unwrap().feed(&[*token], Logits::Last);
            logits.extend(step.unwrap());
        }
        assert!(
            logits == expected,
            "{fixture} {ratios:?}: other logits after the restore"
        );
    }
}

/// A checkpoint at the end of a prefill of more than 4,500 tokens, then generation: the peer aborts when it makes the
/// checkpoint. GGRS goes back to it as often as asked.
#[test]
fn i22307_checkpoint_after_a_prefill_of_more_than_4500_tokens() {
    let long = prompt(4600, 3);
    let mut runs = Vec::new();
    let one = load(SMALL, cpu_members(1).remove(0), Precision::Exact);
    for model in [one, load_split(SMALL, cpu_split(2, &[]), Precision::Exact)] {
        let mut session = session(&model, 4700, 1);
        let slot = SlotId(0);
        let logits = session.prefill(&long, &mut |_| {}).unwrap();
        let checkpoint = session.slot(slot).unwrap().checkpoint();
        assert_eq!(checkpoint.position(), long.len());
        let first = greedy(&mut session, slot, &logits, 5);
        for _ in 0..2 {
            session.rollback(&checkpoint).unwrap();
            assert_eq!(session.tokens(), long);
            assert_eq!(
                greedy(&mut session, slot, &logits, 5),
                first,
                "after the rollback"
            );
        }
        runs.push(first);
    }
    let [(one_tokens, one), (split_tokens, split)] = &runs[..] else {
        panic!("two runs")
    };
    let error = nmse(split, one);
    assert!(error <= 1e-10, "NMSE {error:e}");
    assert_eq!(split_tokens, one_tokens);
}

/// 10,000 decode steps: the peer's pools of nodes run out and its memory grows. In GGRS a decode step after the first
/// allocates nothing on any member.
#[test]
fn i22404_i22616_i23264_10_000_decode_steps_hold_the_same_memory() {
    const STEPS: usize = 10_000;
    const SPAN: usize = 40;
    let members = cpu_members(2);
    let model = load_split(DEMO, split_over(members.clone(), &[]), Precision::Fast);
    let mut session = session(&model, 64, 1);
    let held = |members: &[Arc<dyn Device>]| -> Vec<u64> {
        members.iter().map(|m| m.memory().held).collect()
    };
    session.feed(&prompt(4, 1), Logits::Last).unwrap();
    session.feed(&[7], Logits::Last).unwrap();
    let before = held(&members);
    assert!(before.iter().all(|bytes| *bytes > 0), "{before:?}");
    for step in 0..STEPS {
        if session.tokens().len() >= SPAN {
            session.truncate(4);
        }
        session.feed(&[(step % 300) as u32], Logits::Last).unwrap();
        assert_eq!(held(&members), before, "step {step}");
    }
}

/// The same on the demo, on members that count: no allocation, no weight loaded, the same copies in every step but those
/// in which a slot takes another page.
#[test]
fn i22404_i22616_i23264_decode_steps_of_the_demo_allocate_nothing() {
    let world = FakeWorld::uniform(2).unwrap();
    let model = load_split(
        DEMO,
        split_over(world.open_all().unwrap(), &[]),
        Precision::Fast,
    );
    let mut session = session(&model, 256, 1);
    session.feed(&prompt(5, 1), Logits::Last).unwrap();
    session.feed(&[7], Logits::Last).unwrap();
    let held = [0, 1].map(|i| world.held_bytes(i));
    let mut per_step = None;
    for step in 0..200 {
        world.restart_counts();
        session.feed(&[step], Logits::Last).unwrap();
        assert_eq!(
            world.count(Point::Alloc) + world.count(Point::LoadWeight),
            0,
            "step {step}"
        );
        let counts = [Point::Upload, Point::Download, Point::Launch, Point::Copy];
        let mut counts = counts.map(|p| world.count(p));
        let takes_page = session.tokens().len() % 64 == 1;
        counts[0] -= 2 * u64::from(takes_page);
        assert_eq!(*per_step.get_or_insert(counts), counts, "step {step}");
    }
    assert_eq!([0, 1].map(|i| world.held_bytes(i)), held);
    assert!(per_step.unwrap()[2] > 0, "the members are launched");
    drop((session, model));
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// Saved slots that are reported as restored and of which nothing is reused: the peer's hybrid models. In GGRS a slot
/// saved on members 3:1 goes on with three members and with one device: only what is new runs, the logits are those of
/// a session that was never interrupted.
#[test]
fn i25913_i27813_a_saved_slot_is_reused_after_the_restore_on_other_layouts() {
    let folder = tempfile::tempdir().unwrap();
    for fixture in [SMALL, DEMO] {
        let first = prompt(80, 4);
        let more = prompt(9, 5);
        let whole: Vec<u32> = first.iter().chain(&more).copied().collect();

        let one = load(fixture, cpu_members(1).remove(0), Precision::Exact);
        let mut uninterrupted = session(&one, 128, 1);
        uninterrupted.feed(&first, Logits::Last).unwrap();
        let logits = uninterrupted.feed(&more, Logits::Last).unwrap();
        let (tokens, expected) = greedy(&mut uninterrupted, SlotId(0), &logits, 5);
        let expected = [logits, expected].concat();

        let mut file = folder.path().join("slot");
        let saved = load_split(fixture, cpu_split(2, &[3.0, 1.0]), Precision::Exact);
        let mut saved = session(&saved, 128, 2);
        saved
            .slot(SlotId(1))
            .unwrap()
            .feed(&first, Logits::Last)
            .unwrap();
        saved.slot(SlotId(1)).unwrap().save_state(&file).unwrap();

        for (i, placement) in [
            cpu_split(3, &[]),
            Placement::on(cpu_members(1).remove(0)),
            cpu_split(2, &[3.0, 1.0]),
        ]
        .into_iter()
        .enumerate()
        {
            let what = format!("{fixture}, layout {i}");
            let model = load(fixture, placement, Precision::Exact);
            // A longer context and other slots than those it was saved from.
            let mut restored = session(&model, 256, 1);
            let mut slot = restored.slot(SlotId(0)).unwrap();
            slot.load_state(&file).unwrap();
            assert_eq!(slot.tokens(), first, "{what}");
            let mut n_run = 0;
            let logits = slot.prefill(&whole, &mut |n| n_run = n).unwrap();
            assert_eq!(n_run, more.len(), "{what}: only what is new runs");
            let (got, all) = greedy(&mut restored, SlotId(0), &logits, 5);
            let error = nmse(&[logits, all].concat(), &expected);
            assert!(error <= 1e-10, "{what}: NMSE {error:e}");
            assert_eq!(got, tokens, "{what}");
            // The next layout starts from this one's file, which holds the same rows.
            restored.truncate(first.len());
            let next = folder.path().join(format!("slot{i}"));
            restored.slot(SlotId(0)).unwrap().save_state(&next).unwrap();
            let (old, new) = (std::fs::read(&file).unwrap(), std::fs::read(&next).unwrap());
            assert!(old == new, "{what}: a restored slot saves the same file");
            file = next;
        }
    }
}

/// Eight turns of a chat, each of which goes on from the last one or from a checkpoint in it: the peer's reuse of
/// graphs over a shared cache ended in shapes that no kernel takes. GGRS gives what a session without reuse gives.
#[test]
fn i24566_seed_3_eight_turns_with_reuse_and_rollback() {
    let model = load_split(SMALL, cpu_split(2, &[]), Precision::Exact);
    let one = load(SMALL, cpu_members(1).remove(0), Precision::Exact);
    let mut reusing = session(&model, 512, 2);
    let mut conversation = prompt(20, 6);
    let mut checkpoint = None;
    let mut n_reused = 0;
    for turn in 0..8 {
        if turn == 4 {
            // The user takes the last two turns back.
            let (back, said): (Checkpoint, Vec<u32>) = checkpoint.take().expect("made in turn 1");
            reusing.rollback(&back).unwrap();
            assert_eq!(reusing.tokens(), said);
            conversation = said;
        }
        conversation.extend(prompt(5 + turn, turn));
        let slot = reusing.acquire(&conversation).unwrap();
        assert_eq!(slot, SlotId(0), "the slot that holds it");
        let before = reusing.slot(slot).unwrap().tokens().len();
        let mut n_run = 0;
        let logits = reusing
            .slot(slot)
            .unwrap()
            .prefill(&conversation, &mut |n| n_run = n)
            .unwrap();
        assert_eq!(n_run, conversation.len() - before, "turn {turn}");
        n_reused += before;
        let (tokens, _) = greedy(&mut reusing, slot, &logits, 7);
        if turn == 1 {
            let mut slot = reusing.slot(slot).unwrap();
            checkpoint = Some((slot.checkpoint(), slot.tokens().to_vec()));
        }
        reusing.release(slot).unwrap();

        let mut fresh = session(&one, 512, 1);
        let expected = fresh.prefill(&conversation, &mut |_| {}).unwrap();
        let error = nmse(&logits, &expected);
        assert!(error <= 1e-10, "turn {turn}: NMSE {error:e}");
        assert_eq!(
            tokens,
            greedy(&mut fresh, SlotId(0), &expected, 7).0,
            "turn {turn}"
        );
        conversation.extend(tokens);
    }
    assert!(n_reused > 200, "{n_reused} tokens reused");
}

/// Quantised caches were refused in the peer's tensor mode, and some types still assert. In GGRS each type gives what
/// it gives on one device.
#[test]
fn i21788_i23792_every_kv_type_under_tensor_split() {
    let one = load(DEMO, cpu_members(1).remove(0), Precision::Exact);
    let split = load_split(DEMO, cpu_split(3, &[2.0, 1.0, 1.0]), Precision::Exact);
    let mut seen = Vec::new();
    for kv_dtype in [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
    ] {
        let run = |model: &Arc<Model>| {
            let options = SessionOptions {
                n_ctx: Some(64),
                kv_dtype,
                ..SessionOptions::default()
            };
            let mut session = Session::new(model, &options).expect("the session opens");
            session.feed(&prompt(30, 7), Logits::All).unwrap()
        };
        let (expected, logits) = (run(&one), run(&split));
        let error = nmse(&logits, &expected);
        println!("{kv_dtype}: NMSE {error:e}");
        assert!(error <= 1e-10, "{kv_dtype}: NMSE {error:e}");
        seen.push(expected);
    }
    for pair in seen.windows(2) {
        assert_ne!(pair[0], pair[1], "the type matters");
    }
}
