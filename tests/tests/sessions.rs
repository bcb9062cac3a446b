//! Slots of one KV cache: many sequences at once are the same as each alone, whatever is shared, kept and rolled back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::ops::ControlFlow;
use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::chat::{Message, RenderOptions};
use ggrs_model::sampling::{Sampler, SamplerConfig};
use ggrs_model::tokenizer::EncodeOptions;
use ggrs_model::{
    Event, GenerateOptions, Logits, Model, Session, SessionError, SessionOptions, SlotId,
};
use ggrs_tests::placed::{argmax, cpu_members, load, nmse};

const DEMO: &str = "../../ggrs-cli/assets/demo-q8_0.gguf";
const FIXTURE: &str = "qwen3moe/small-f32.gguf";

fn model(fixture: &str, precision: Precision) -> Arc<Model> {
    load(fixture, cpu_members(1).remove(0), precision)
}

fn open(model: &Arc<Model>, n_slots: usize, n_ctx: usize, prompt_cache_bytes: u64) -> Session {
    let options = SessionOptions {
        n_slots,
        n_ctx: Some(n_ctx),
        n_batch: 64,
        kv_dtype: DType::F32,
        prompt_cache_bytes,
    };
    Session::new(model, &options).expect("the session opens")
}

/// Tokens that look like nothing in particular and differ by `seed`.
fn ids(seed: u32, n: usize, model: &Model) -> Vec<u32> {
    let n_vocab = model.architecture().n_vocab() as u32;
    let mut x = seed.wrapping_mul(747_796_405);
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) % n_vocab
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Greedy tokens after `prompt` in a session of its own, and the logits that chose each.
fn alone(model: &Arc<Model>, prompt: &[u32], n: usize) -> (Vec<u32>, Vec<Vec<f32>>) {
    let mut session = open(model, 1, 512, 0);
    let mut logits = vec![session.feed(prompt, Logits::Last).unwrap()];
    let mut tokens = Vec::new();
    for _ in 0..n {
        let next = argmax(logits.last().unwrap());
        tokens.push(next);
        logits.push(session.feed(&[next], Logits::Last).unwrap());
    }
    (tokens, logits)
}

/// Steps of a prefill: tokens done after each.
fn prefill(session: &mut Session, slot: SlotId, prompt: &[u32]) -> (Vec<f32>, usize) {
    let mut done = 0;
    let logits = session
        .slot(slot)
        .unwrap()
        .prefill(prompt, &mut |n| done = n);
    (logits.unwrap(), done)
}

#[test]
fn interleaved_slots_are_the_same_as_separate_sessions() {
    for fixture in [DEMO, FIXTURE] {
        let model = model(fixture, Precision::Exact);
        let prompts: Vec<Vec<u32>> = (0..3)
            .map(|i| ids(i, 50 + 40 * i as usize, &model))
            .collect();
        let expected: Vec<_> = prompts.iter().map(|p| alone(&model, p, 20)).collect();

        let mut session = open(&model, 3, 512, 0);
        let mut logits: Vec<Vec<f32>> = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let mut slot = session.slot(SlotId(i)).unwrap();
            logits.push(slot.feed(prompt, Logits::Last).unwrap());
        }
        for step in 0..20 {
            for i in [2, 0, 1] {
                let next = argmax(&logits[i]);
                assert_eq!(
                    next, expected[i].0[step],
                    "{fixture}: slot {i}, token {step}"
                );
                let mut slot = session.slot(SlotId(i)).unwrap();
                logits[i] = slot.feed(&[next], Logits::Last).unwrap();
                let error = nmse(&logits[i], &expected[i].1[step + 1]);
                assert!(
                    error < 1e-12,
                    "{fixture}: slot {i}, token {step}: NMSE {error:e}"
                );
            }
        }
    }
}

#[test]
fn one_step_of_several_slots_is_a_step_of_each() {
    for fixture in [DEMO, FIXTURE] {
        let model = model(fixture, Precision::Exact);
        let prompts: Vec<Vec<u32>> = (0..4)
            .map(|i| ids(i, 30 + 35 * i as usize, &model))
            .collect();
        let expected: Vec<_> = prompts.iter().map(|p| alone(&model, p, 8)).collect();

        let mut session = open(&model, 4, 256, 0);
        // Prompts of 30 to 135 tokens, together more than four batches.
        let parts = |tokens: &[Vec<u32>]| -> Vec<(SlotId, Vec<u32>)> {
            (0..).map(SlotId).zip(tokens.iter().cloned()).collect()
        };
        let step = |session: &mut Session, tokens: &[Vec<u32>]| {
            let parts = parts(tokens);
            let parts: Vec<_> = parts
                .iter()
                .map(|(slot, t)| (*slot, t.as_slice()))
                .collect();
            session.step(&parts).expect("it runs")
        };
        let mut logits = step(&mut session, &prompts);
        for n in 0..=8 {
            for (i, (tokens, rows)) in expected.iter().enumerate() {
                let error = nmse(&logits[i], &rows[n]);
                assert!(
                    error < 1e-10,
                    "{fixture}: slot {i}, step {n}: NMSE {error:e}"
                );
                assert_eq!(
                    session.slot(SlotId(i)).unwrap().tokens()[prompts[i].len()..],
                    tokens[..n]
                );
            }
            if n < 8 {
                let next: Vec<_> = expected.iter().map(|(tokens, _)| vec![tokens[n]]).collect();
                logits = step(&mut session, &next);
            }
        }
    }
}

#[test]
fn a_step_that_cannot_be_leaves_every_slot_as_it_was() {
    let model = model(FIXTURE, Precision::Exact);
    let mut session = open(&model, 2, 70, 0);
    let (a, b) = (SlotId(0), SlotId(1));
    session.step(&[(a, &[1, 2, 3]), (b, &[4])]).unwrap();
    let long = [5; 70];
    type Work<'a> = &'a [(SlotId, &'a [u32])];
    let refusals: [(Work<'_>, &str); 5] = [
        (&[], "the prompt has no tokens; give at least one"),
        (
            &[(a, &[1]), (b, &[])],
            "the prompt has no tokens; give at least one",
        ),
        (
            &[(a, &[1]), (a, &[2])],
            "slot 0 is given twice in one step; join its tokens",
        ),
        (
            &[(SlotId(2), &[1])],
            "there is no slot 2: the session has 2, counted from 0; open it with more slots",
        ),
        (
            &[(a, &[1]), (b, &long)],
            "70 more tokens do not fit: the context holds 70, 1 are used",
        ),
    ];
    for (parts, expected) in refusals {
        let error = session.step(parts).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(session.tokens(), [1, 2, 3]);
    assert_eq!(session.slot(b).unwrap().tokens(), [4]);
    let expected = alone(&model, &[1, 2, 3, 6], 0).1;
    let logits = session.feed(&[6], Logits::Last).unwrap();
    assert!(nmse(&logits, &expected[0]) < 1e-12);
}

#[test]
fn options_outside_their_range_are_refused_by_name() {
    let model = model(FIXTURE, Precision::Exact);
    let refused = |n_slots, n_ctx| {
        let options = SessionOptions {
            n_slots,
            n_ctx: Some(n_ctx),
            ..SessionOptions::default()
        };
        Session::new(&model, &options)
            .err()
            .expect("refused")
            .to_string()
    };
    assert!(
        refused(0, 64).starts_with("the number of slots = 0 is not possible: it must be from 1")
    );
    assert!(refused(1 << 20, 1 << 20).starts_with("the number of slots = 1048576"));
    assert!(refused(1, 0).starts_with("the context length (--ctx) = 0"));
}

#[test]
fn a_prompt_gets_the_idle_slot_that_holds_most_of_it() {
    let model = model(FIXTURE, Precision::Exact);
    let mut session = open(&model, 3, 256, 0);
    let system = ids(9, 100, &model);
    let with = |seed| [system.clone(), ids(seed, 30, &model)].concat();

    let first = session.acquire(&with(1)).unwrap();
    assert_eq!(
        (first, prefill(&mut session, first, &with(1)).1),
        (SlotId(0), 130)
    );
    session.release(first).unwrap();
    // Idle, and it begins alike.
    let again = session.acquire(&with(2)).unwrap();
    assert_eq!(again, first);
    assert_eq!(prefill(&mut session, again, &with(2)).1, 30);

    // Busy now: its first 100 cells are shared with an empty slot, and both go on as if alone.
    let second = session.acquire(&with(3)).unwrap();
    assert_ne!(second, first);
    assert_eq!(session.slot(second).unwrap().tokens(), system);
    let (logits, n_done) = prefill(&mut session, second, &with(3));
    assert_eq!(n_done, 30);
    let (tokens, expected) = alone(&model, &with(3), 1);
    assert!(nmse(&logits, &expected[0]) < 1e-10);
    // A common beginning that ends inside a block of 64 is copied before it is written: the first slot still sees its
    // own. It is cut back to the shared part and goes on otherwise, then the second.
    session.slot(first).unwrap().truncate(110);
    let (logits, n_done) = prefill(&mut session, first, &with(4));
    assert_eq!(n_done, 30);
    assert!(nmse(&logits, &alone(&model, &with(4), 0).1[0]) < 1e-10);
    let logits = session.step(&[(second, &tokens)]).unwrap();
    assert!(nmse(&logits[0], &expected[1]) < 1e-10);

    let third = session.acquire(&ids(5, 10, &model)).unwrap();
    let error = session.acquire(&with(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "all 3 slots are busy; release one or open the session with more"
    );
    assert!(third != first && third != second);
}

#[test]
fn prompts_used_longest_ago_leave_the_cache_first() {
    let model = model(FIXTURE, Precision::Exact);
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| ids(20 + i, 70, &model)).collect();
    // What a prompt of 70 tokens takes, measured; then a cache for two and a half.
    let mut session = open(&model, 1, 128, u64::MAX);
    session.feed(&prompts[0], Logits::Last).unwrap();
    session.save_to_prompt_cache(SlotId(0)).unwrap();
    let bytes = session.prompt_cache().bytes();
    assert!(bytes > 70 * 4);

    let mut session = open(&model, 1, 128, bytes * 5 / 2);
    let kept = |session: &Session| -> Vec<Vec<u32>> {
        session
            .prompt_cache()
            .prompts()
            .map(<[u32]>::to_vec)
            .collect()
    };
    let request = |session: &mut Session, prompt: &[u32]| {
        let slot = session.acquire(prompt).unwrap();
        let n_done = prefill(session, slot, prompt).1;
        session.release(slot).unwrap();
        n_done
    };
    for prompt in &prompts {
        assert_eq!(request(&mut session, prompt), 70, "nothing is common");
    }
    assert_eq!(
        kept(&session),
        [prompts[1].clone(), prompts[2].clone()],
        "0 went, 3 is in the slot"
    );
    assert!(session.prompt_cache().bytes() <= session.prompt_cache().budget_bytes());
    // 1 comes back from the cache: only its last token is run, for its logits. 3 takes its place.
    assert_eq!(request(&mut session, &prompts[1]), 1);
    assert_eq!(kept(&session), [prompts[2].clone(), prompts[3].clone()]);
    assert_eq!(request(&mut session, &prompts[0]), 70, "it was dropped");
    assert_eq!(kept(&session), [prompts[3].clone(), prompts[1].clone()]);

    let mut small = open(&model, 1, 128, bytes - 1);
    small.feed(&prompts[0], Logits::Last).unwrap();
    let error = small.save_to_prompt_cache(SlotId(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "a prompt of 70 tokens takes {bytes} bytes of the prompt cache, which holds {} in all; open the session with a larger one",
            bytes - 1
        )
    );
    // Refused by itself, but no reason to refuse the next prompt.
    assert_eq!(request(&mut small, &prompts[1]), 70);
    assert_eq!(small.prompt_cache().bytes(), 0);
}

/// An idle slot is saved right after a request; the request's conversation goes on bit for bit when it comes back.
#[test]
fn scenario_22307_idle_slot_save_right_after_a_request() {
    let model = model(DEMO, Precision::Fast);
    let mut session = open(&model, 1, 512, 1 << 30);
    let prompt = ids(1, 150, &model);
    let (expected, rows) = alone(&model, &prompt, 30);

    let slot = session.acquire(&prompt).unwrap();
    let mut logits = prefill(&mut session, slot, &prompt).0;
    for _ in 0..10 {
        logits = session.feed(&[argmax(&logits)], Logits::Last).unwrap();
    }
    session.release(slot).unwrap();
    session.save_to_prompt_cache(slot).unwrap();
    assert_eq!(
        session.prompt_cache().prompts().next().unwrap(),
        session.tokens()
    );
    // Saving the same again costs nothing.
    let bytes = session.prompt_cache().bytes();
    session.save_to_prompt_cache(slot).unwrap();
    assert_eq!(session.prompt_cache().bytes(), bytes);

    let other = ids(2, 200, &model);
    let slot = session.acquire(&other).unwrap();
    prefill(&mut session, slot, &other);
    session.release(slot).unwrap();

    let so_far = [&prompt[..], &expected[..10]].concat();
    let slot = session
        .acquire(&[&so_far[..], &expected[10..11]].concat())
        .unwrap();
    assert_eq!(session.slot(slot).unwrap().tokens(), so_far);
    for (i, token) in expected.iter().enumerate().skip(10) {
        let logits = session.feed(&[*token], Logits::Last).unwrap();
        assert!(logits == rows[i + 1], "token {i} after the restore differs");
    }
}

/// A checkpoint at the end of a prefill of more than 4,500 tokens, generation, rollback, the same generation.
#[test]
fn scenario_22307_checkpoint_at_the_end_of_a_long_prefill() {
    let model = model(DEMO, Precision::Fast);
    let options = SessionOptions {
        n_slots: 2,
        n_ctx: Some(4_700),
        prompt_cache_bytes: 1 << 30,
        ..SessionOptions::default()
    };
    let mut session = Session::new(&model, &options).unwrap();
    let prompt = ids(3, 4_617, &model);
    let slot = session.acquire(&prompt).unwrap();
    let first = prefill(&mut session, slot, &prompt).0;
    let checkpoint = session.slot(slot).unwrap().checkpoint();
    assert_eq!((checkpoint.slot(), checkpoint.position()), (slot, 4_617));
    let generate = |session: &mut Session, slot: SlotId| {
        let mut rows = vec![first.clone()];
        for _ in 0..24 {
            let next = [argmax(rows.last().unwrap())];
            rows.extend(session.step(&[(slot, &next)]).unwrap());
        }
        rows
    };
    let expected = generate(&mut session, slot);
    session.rollback(&checkpoint).unwrap();
    assert_eq!(session.slot(slot).unwrap().tokens(), prompt);
    assert!(
        generate(&mut session, slot) == expected,
        "the generation after a rollback differs"
    );
    // Saved, displaced and restored it is still the same.
    session.rollback(&checkpoint).unwrap();
    session.save_to_prompt_cache(slot).unwrap();
    session.slot(slot).unwrap().truncate(0);
    session.release(slot).unwrap();
    let longer = [&prompt[..], &[0]].concat();
    let restored = session.acquire(&longer).unwrap();
    assert_ne!(restored, slot, "the slot used longest ago");
    assert_eq!(session.slot(restored).unwrap().tokens(), prompt);
    assert!(
        generate(&mut session, restored) == expected,
        "the generation after a restore differs"
    );
    assert!(matches!(
        session.rollback(&checkpoint),
        Err(SessionError::CheckpointGone { .. })
    ));
}

#[test]
fn a_checkpoint_is_good_until_a_token_before_it_is_forgotten() {
    let model = model(FIXTURE, Precision::Exact);
    let mut session = open(&model, 2, 128, 0);
    let mut slot = session.slot(SlotId(1)).unwrap();
    slot.feed(&[1, 2, 3], Logits::Last).unwrap();
    let early = slot.checkpoint();
    slot.feed(&[4, 5], Logits::Last).unwrap();
    let late = slot.checkpoint();
    assert_eq!(slot.checkpoint(), late, "one place, one checkpoint");
    slot.feed(&[6], Logits::Last).unwrap();

    session.rollback(&late).unwrap();
    assert_eq!(session.slot(SlotId(1)).unwrap().tokens(), [1, 2, 3, 4, 5]);
    session.rollback(&early).unwrap();
    assert_eq!(session.slot(SlotId(1)).unwrap().tokens(), [1, 2, 3]);
    session.rollback(&early).unwrap();
    let gone = session.rollback(&late).unwrap_err();
    assert_eq!(
        gone.to_string(),
        "the checkpoint at position 5 of slot 1 is gone: tokens before it were forgotten since, the slot has 3 now; prefill the prompt again"
    );
    // Other tokens in its place do not bring it back, nor does another session have it.
    session
        .slot(SlotId(1))
        .unwrap()
        .feed(&[7, 8, 9], Logits::Last)
        .unwrap();
    assert!(session.rollback(&late).is_err());
    let mut other = open(&model, 2, 128, 0);
    other
        .slot(SlotId(1))
        .unwrap()
        .feed(&[1, 2, 3], Logits::Last)
        .unwrap();
    assert!(other.rollback(&early).is_err());
    session.rollback(&early).unwrap();
    let logits = session
        .slot(SlotId(1))
        .unwrap()
        .feed(&[4], Logits::Last)
        .unwrap();
    assert!(nmse(&logits, &alone(&model, &[1, 2, 3, 4], 0).1[0]) < 1e-10);
}

/// The answer to a conversation so far: its text and tokens; and how many tokens of the prompt were there already.
fn answer(
    session: &mut Session,
    slot: SlotId,
    messages: &[Message],
) -> ((String, Vec<u32>), usize) {
    let model = Arc::clone(session.model());
    let chat = model.chat_template().unwrap();
    let prompt = chat.render(messages, &RenderOptions::default()).unwrap();
    let options = EncodeOptions {
        parse_special: true,
        ..EncodeOptions::default()
    };
    let ids = model.tokenizer().unwrap().encode(&prompt, options).unwrap();
    let mut sampler = Sampler::new(SamplerConfig::default(), 0).unwrap();
    let limits = GenerateOptions {
        max_tokens: Some(40),
        ..GenerateOptions::default()
    };
    let mut n_run = 0;
    let mut slot = session.slot(slot).unwrap();
    let done = slot.generate(&ids, &mut sampler, &limits, &mut |event| {
        if let Event::Prefill(n) = event {
            n_run = n;
        }
        ControlFlow::Continue(())
    });
    let done = done.unwrap();
    ((done.text, done.tokens), ids.len() - n_run)
}

#[test]
fn eight_turns_with_reuse_and_checkpoints_are_eight_prompts_without() {
    const QUESTIONS: [&str; 8] = [
        "Hello",
        "What is 17 + 25?",
        "Who are you?",
        "What is 8 + 9?",
        "What is the capital of France?",
        "What is 30 - 12?",
        "Hello again",
        "What is 3 + 4?",
    ];
    let model = model(DEMO, Precision::Exact);
    let mut reusing = open(&model, 2, 1024, 0);
    let slot = SlotId(1);
    let mut messages = Vec::new();
    for question in QUESTIONS {
        messages.push(Message::new("user", question));
        let checkpoint = reusing.slot(slot).unwrap().checkpoint();
        let (first, n_reused) = answer(&mut reusing, slot, &messages);
        assert_eq!(n_reused, checkpoint.position(), "{question}");
        // Asked again from the end of the turn before.
        reusing.rollback(&checkpoint).unwrap();
        let (again, n_reused) = answer(&mut reusing, slot, &messages);
        assert_eq!(
            (&again, n_reused),
            (&first, checkpoint.position()),
            "{question}"
        );

        let (fresh, n_reused) = answer(&mut open(&model, 1, 1024, 0), SlotId(0), &messages);
        assert_eq!((&first, 0), (&fresh, n_reused), "{question}");
        messages.push(Message::new("assistant", first.0));
    }
    assert!(reusing.slot(slot).unwrap().tokens().len() > 100);
}
