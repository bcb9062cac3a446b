//! Decoding on the device: the tokens that it chooses are those that a sampler on the host would have chosen from the same
//! logits, whatever the settings, however many slots go on together, and whatever happened in between.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::sampling::{Sampler, SamplerConfig};
use ggrs_model::{Logits, Model, Session, SessionOptions, SlotId};
use ggrs_sched::Placement;
use ggrs_tests::fake::{FakeWorld, Point};
use ggrs_tests::placed::{by_layer, by_tensor, cpu_members, load};

const DEMO: &str = "../../ggrs-cli/assets/demo-q8_0.gguf";
const FIXTURE: &str = "qwen3moe/small-f32.gguf";
const PROMPT: [u32; 9] = [3, 141, 59, 26, 53, 58, 97, 93, 23];

fn model(fixture: &str) -> Arc<Model> {
    load(fixture, cpu_members(1).remove(0), Precision::Exact)
}

fn open(model: &Arc<Model>, n_slots: usize, n_ctx: usize, n_batch: usize) -> Session {
    let options = SessionOptions {
        n_slots,
        n_ctx: Some(n_ctx),
        n_batch,
        kv_dtype: DType::F32,
        ..SessionOptions::default()
    };
    Session::new(model, &options).expect("the session opens")
}

/// Settings of every kind: greedy, each stage alone, all together, a window that no cursor holds.
fn configs() -> Vec<SamplerConfig> {
    let greedy = SamplerConfig::default;
    let hot = |temperature| SamplerConfig {
        temperature,
        ..greedy()
    };
    vec![
        greedy(),
        hot(1.0),
        SamplerConfig {
            top_k: 20,
            ..hot(1.5)
        },
        SamplerConfig {
            top_p: 0.9,
            ..hot(1.0)
        },
        SamplerConfig {
            min_p: 0.1,
            ..hot(2.0)
        },
        SamplerConfig {
            repetition_penalty: 1.3,
            ..greedy()
        },
        SamplerConfig {
            top_k: 40,
            top_p: 0.95,
            min_p: 0.02,
            repetition_penalty: 1.1,
            presence_penalty: 0.2,
            frequency_penalty: 0.3,
            repetition_window: 5,
            ..hot(0.8)
        },
        SamplerConfig {
            repetition_penalty: 1.2,
            repetition_window: 1000,
            ..hot(1.0)
        },
    ]
}

fn sampler(config: &SamplerConfig, seed: u64) -> Sampler {
    let mut sampler = Sampler::new(config.clone(), seed).unwrap();
    for token in PROMPT {
        sampler.accept(token);
    }
    sampler
}

/// The first token after a prompt.
fn first(logits: &[f32], sampler: &mut Sampler) -> u32 {
    let token = sampler.sample(logits).unwrap();
    sampler.accept(token);
    token
}

/// Tokens after a prompt, every one chosen on the host.
fn on_host(session: &mut Session, prompt: &[u32], mut sampler: Sampler, n: usize) -> Vec<u32> {
    let mut logits = session.feed(prompt, Logits::Last).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..n {
        tokens.push(first(&logits, &mut sampler));
        logits = session
            .feed(&tokens[tokens.len() - 1..], Logits::Last)
            .unwrap();
    }
    tokens
}

/// The same, all but the first chosen on the device.
fn on_device(session: &mut Session, prompt: &[u32], mut sampler: Sampler, n: usize) -> Vec<u32> {
    let logits = session.feed(prompt, Logits::Last).unwrap();
    let mut tokens = vec![first(&logits, &mut sampler)];
    while tokens.len() < n {
        let last = *tokens.last().unwrap();
        let mut slot = session.slot(SlotId(0)).unwrap();
        tokens.push(slot.decode(last, &mut sampler).unwrap());
    }
    tokens
}

#[test]
fn the_device_chooses_as_the_host_does() {
    // Over the ends of pages and of the ring.
    const N: usize = 300;
    for fixture in [DEMO, FIXTURE] {
        let model = model(fixture);
        let mut there = open(&model, 1, 512, 64);
        for (seed, config) in (0..).zip(configs()) {
            let n = if fixture == FIXTURE { N } else { 40 };
            let expected = on_host(
                &mut open(&model, 1, 512, 64),
                &PROMPT,
                sampler(&config, seed),
                n,
            );
            // One session after another choice in it: nothing of that is left.
            there.truncate(0);
            let tokens = on_device(&mut there, &PROMPT, sampler(&config, seed), n);
            assert_eq!(tokens, expected, "{fixture}, {config:?}");
            assert_eq!(there.tokens(), [&PROMPT[..], &tokens[..n - 1]].concat());
        }
    }
}

#[test]
fn whatever_lies_where_the_same_tokens_are_chosen() {
    let config = &configs()[6];
    let expected = on_host(
        &mut open(&model(FIXTURE), 1, 128, 64),
        &PROMPT,
        sampler(config, 3),
        80,
    );
    let placements: [(&str, Placement); 4] = [
        ("layers over 2", by_layer(cpu_members(2))),
        ("layers over 3", by_layer(cpu_members(3))),
        ("tensors over 2", by_tensor(2, &[]).placement().unwrap()),
        (
            "tensors over 3",
            by_tensor(3, &[3.0, 1.0, 2.0]).placement().unwrap(),
        ),
    ];
    for (name, placement) in placements {
        let model = load(FIXTURE, placement, Precision::Exact);
        let tokens = on_device(
            &mut open(&model, 1, 128, 64),
            &PROMPT,
            sampler(config, 3),
            80,
        );
        assert_eq!(tokens, expected, "{name}");
    }
}

/// A slot in the middle of its answer.
struct Talk {
    slot: SlotId,
    sampler: Sampler,
    tokens: Vec<u32>,
    expected: Vec<u32>,
}

/// Lets some of the talks go on by one token together.
fn go_on(session: &mut Session, talks: &mut [Talk], which: impl Fn(usize) -> bool) {
    let now = talks.iter_mut().enumerate().filter(|(i, _)| which(*i));
    let mut now: Vec<&mut Talk> = now.map(|(_, talk)| talk).collect();
    let parts = now
        .iter_mut()
        .map(|t| (t.slot, *t.tokens.last().unwrap(), &mut t.sampler));
    let next = session.decode(&mut parts.collect::<Vec<_>>()).unwrap();
    for (talk, token) in now.into_iter().zip(next) {
        talk.tokens.push(token);
    }
}

#[test]
fn slots_that_go_on_together_are_the_same_as_each_alone() {
    const N: usize = 70;
    let model = model(FIXTURE);
    // In steps of one, three and all of them; five are padded to six.
    for n_batch in [64, 3, 1] {
        let mut session = open(&model, 7, 160, n_batch);
        let mut talks = Vec::new();
        for (i, config) in configs().iter().take(7).enumerate() {
            let prompt: Vec<u32> = PROMPT.iter().map(|t| t + i as u32).collect();
            let alone = &mut open(&model, 1, 160, 64);
            let expected = on_host(alone, &prompt, sampler(config, 9), N);
            let (slot, mut sampler) = (SlotId(i), sampler(config, 9));
            let logits = session
                .slot(slot)
                .unwrap()
                .feed(&prompt, Logits::Last)
                .unwrap();
            let tokens = vec![first(&logits, &mut sampler)];
            talks.push(Talk {
                slot,
                sampler,
                tokens,
                expected,
            });
        }
        let mut step = 0;
        while talks.iter().any(|t| t.tokens.len() < N) {
            // Some pause, and come back to columns that others had.
            let lengths: Vec<usize> = talks.iter().map(|t| t.tokens.len()).collect();
            go_on(&mut session, &mut talks, |i| {
                lengths[i] < N && (i + step / 5) % 4 != 0
            });
            step += 1;
        }
        for talk in talks {
            assert_eq!(
                talk.tokens, talk.expected,
                "{} in steps of {n_batch}",
                talk.slot
            );
        }
    }
}

#[test]
fn what_happens_between_two_steps_is_seen_by_the_next() {
    let model = model(FIXTURE);
    let config = &configs()[6];
    let mut session = open(&model, 1, 128, 64);
    let tokens = on_device(&mut session, &PROMPT, sampler(config, 5), 20);
    // Back by a few tokens, with the sampler of then; another token; a part fed by the host.
    session.truncate(PROMPT.len() + 9);
    let mut again = sampler(config, 5);
    for token in &tokens[..10] {
        again.sample(&[0.0; 1 << 16]).unwrap();
        again.accept(*token);
    }
    let mut kept = again.clone();
    let mut slot = session.slot(SlotId(0)).unwrap();
    assert_eq!(slot.decode(tokens[9], &mut again).unwrap(), tokens[10]);
    slot.truncate(PROMPT.len() + 9);
    let logits = slot.feed(&tokens[9..10], Logits::Last).unwrap();
    assert_eq!(kept.sample(&logits).unwrap(), tokens[10]);
    kept.accept(tokens[10]);
    assert_eq!(slot.decode(tokens[10], &mut kept).unwrap(), tokens[11]);
    let mut other = kept.clone();
    let other_token = (tokens[11] + 1) % 100;
    let by_device = slot.decode(other_token, &mut kept).unwrap();
    slot.truncate(PROMPT.len() + 11);
    let logits = slot.feed(&[other_token], Logits::Last).unwrap();
    assert_eq!(other.sample(&logits).unwrap(), by_device);
}

#[test]
fn a_step_that_cannot_be_leaves_slots_and_samplers_as_they_were() {
    let model = model(FIXTURE);
    let mut session = open(&model, 2, 12, 64);
    let config = &configs()[1];
    let (mut a, mut b) = (sampler(config, 1), sampler(config, 2));
    let logits = session.feed(&PROMPT, Logits::Last).unwrap();
    let mut token = first(&logits, &mut a);
    let error = |session: &mut Session, parts: &mut [(SlotId, u32, &mut Sampler)]| {
        session.decode(parts).unwrap_err().to_string()
    };
    let (one, two) = (SlotId(0), SlotId(1));
    assert_eq!(
        error(&mut session, &mut []),
        "the prompt has no tokens; give at least one"
    );
    assert_eq!(
        error(&mut session, &mut [(one, 5, &mut a), (one, 5, &mut b)]),
        "slot 0 is given twice in one step; join its tokens"
    );
    assert!(error(&mut session, &mut [(SlotId(2), 5, &mut a)]).starts_with("there is no slot 2"));
    assert!(error(&mut session, &mut [(one, 999_999, &mut a)]).starts_with("token id 999999"));
    let expected = on_host(&mut open(&model, 1, 64, 64), &PROMPT, sampler(config, 1), 5);
    for next in &expected[1..4] {
        token = session.decode(&mut [(one, token, &mut a)]).unwrap()[0];
        assert_eq!(token, *next);
    }
    let full = error(&mut session, &mut [(two, 5, &mut b), (one, token, &mut a)]);
    assert!(
        full.starts_with("1 more tokens do not fit: the context holds 12, 12 are used"),
        "{full}"
    );
    assert_eq!(session.tokens().len(), 12);
    assert!(session.slot(two).unwrap().tokens().is_empty());
    // The sampler has drawn nothing: from the same place it goes on the same way.
    session.truncate(11);
    let mut same = a.clone();
    let logits = session.feed(&[expected[2]], Logits::Last).unwrap();
    session.truncate(11);
    let next = session.decode(&mut [(one, expected[2], &mut a)]).unwrap();
    assert_eq!(next, [same.sample(&logits).unwrap()]);
}

/// A step is a launch and the download of its token; what is uploaded are the pages, when there is a new one.
#[test]
fn a_step_uploads_only_what_has_changed() {
    let world = FakeWorld::uniform(1).unwrap();
    let model = load(FIXTURE, world.open(0).unwrap(), Precision::Exact);
    for config in configs().iter().take(7) {
        let mut session = open(&model, 1, 256, 64);
        on_device(&mut session, &PROMPT, sampler(config, 0), 2);
        let mut sampler = sampler(config, 0);
        let mut token = 5;
        let mut uploads = Vec::new();
        for step in 0..200 {
            world.restart_counts();
            token = session
                .decode(&mut [(SlotId(0), token, &mut sampler)])
                .unwrap()[0];
            assert_eq!(world.count(Point::Alloc), 0);
            let down = world.tally(0, Point::Download);
            assert_eq!(
                (world.count(Point::Launch), down.events, down.bytes),
                (1, 1, 4)
            );
            uploads.extend((world.count(Point::Upload) > 0).then_some(step));
        }
        // The token and the sampler were others at first; 10 tokens are there before.
        assert_eq!(uploads, [0, 54, 118, 182], "{config:?}");
    }
    world.audit().unwrap();
}
