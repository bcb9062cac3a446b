//! Whole models over several devices: whatever lies where, logits and greedy tokens are those of one device.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests, which say what they cover"
)]

use std::ops::ControlFlow;
use std::sync::Arc;

use ggrs_core::device::Precision;
use ggrs_core::ops::Op;
use ggrs_core::plan::Plan;
use ggrs_core::{DType, RoleKind};
use ggrs_meta::ExpertSplit;
use ggrs_model::chat::{Message, RenderOptions};
use ggrs_model::gguf::GgufFile;
use ggrs_model::sampling::{Sampler, SamplerConfig};
use ggrs_model::tokenizer::EncodeOptions;
use ggrs_model::{
    Deployment, GenerateOptions, HostExperts, LoadOptions, Logits, Model, Override, SessionOptions,
    SlotId, SplitMode, preview,
};
use ggrs_sched::{Leaves, Pattern, Pin, Placement, SchedPlan, Spread};
use ggrs_tests::fixtures::{demo_questions, fixture_path};
use ggrs_tests::placed::{by_layer, by_tensor, cpu_members, load, nmse, open, pin, run};

const PROMPT: [u32; 9] = [3, 141, 59, 26, 53, 58, 97, 93, 23];
const N_MORE: usize = 6;
const DEMO: &str = "demo/demo-q4_k_m.gguf";

/// Logits under placements against those of one device.
fn same_as_one(fixture: &str, placements: Vec<(String, Placement)>) {
    let one = load(fixture, cpu_members(1).remove(0), Precision::Exact);
    let (expected, tokens) = run(&mut open(&one, 64, DType::F32), &PROMPT, N_MORE);
    for (name, placement) in placements {
        println!("{fixture}, {name}");
        let model = load(fixture, placement, Precision::Exact);
        let (actual, got) = run(&mut open(&model, 64, DType::F32), &PROMPT, N_MORE);
        let error = nmse(&actual, &expected);
        assert!(error <= 1e-10, "{fixture}, {name}: NMSE {error:e}");
        assert_eq!(got, tokens, "{fixture}, {name}");
        assert_eq!(decoded(&model), tokens, "{fixture}, {name}: decoded");
    }
}

/// The greedy tokens after the prompt, chosen where the logits are.
fn decoded(model: &Arc<Model>) -> Vec<u32> {
    let mut session = open(model, 64, DType::F32);
    let mut greedy = Sampler::new(SamplerConfig::default(), 0).expect("greedy");
    let logits = session
        .feed(&PROMPT, Logits::Last)
        .expect("the prompt runs");
    let mut tokens = vec![greedy.sample(&logits).expect("a token")];
    while tokens.len() < N_MORE {
        let mut slot = session.slot(SlotId(0)).expect("a slot");
        let last = *tokens.last().expect("the first");
        tokens.push(slot.decode(last, &mut greedy).expect("a step runs"));
    }
    tokens
}

/// The whole CPU, as the memory for what is kept off the members.
fn with_host(n: usize, split: SplitMode, shares: &[f64]) -> Deployment {
    Deployment {
        host: Some(cpu_members(1).remove(0)),
        split,
        ..by_tensor(n, shares)
    }
}

/// One to five members, layers or tensors over them, in all ratios.
fn splits(split: SplitMode) -> Vec<(String, Placement)> {
    const RATIOS: [&[f64]; 4] = [&[1.0], &[3.0, 1.0], &[1.0, 0.0], &[30.0, 25.0]];
    let mut all = Vec::new();
    for n in 1..=5 {
        for ratio in RATIOS {
            let shares: Vec<f64> = ratio.iter().copied().cycle().take(n).collect();
            let placement = with_host(n, split, &shares).placement();
            all.push((
                format!("{split:?} over {n} as {shares:?}"),
                placement.unwrap(),
            ));
        }
    }
    all
}

/// Tensors split, and something else beside it.
fn mixed() -> Vec<(String, Placement)> {
    let mut all = Vec::new();
    let mut add = |name: &str, deployment: Deployment| {
        all.push((name.to_owned(), deployment.placement().expect(name)));
    };
    let groups = |sizes: &[usize], shares: &[f64]| {
        let mut members = cpu_members(sizes.iter().sum()).into_iter();
        Deployment {
            devices: sizes
                .iter()
                .map(|n| members.by_ref().take(*n).collect())
                .collect(),
            ..with_host(0, SplitMode::Layer, shares)
        }
    };
    add("layers over two groups of two", groups(&[2, 2], &[]));
    add(
        "layers over groups of three and one as 1:3",
        groups(&[3, 1], &[1.0, 3.0]),
    );
    for (n, shares) in [(2, &[][..]), (2, &[3.0, 1.0]), (3, &[])] {
        let split = || with_host(n, SplitMode::Tensor, shares);
        let over = format!("tensors over {n} as {shares:?}");
        for (name, host_experts) in [
            ("the first layer's experts", HostExperts::First(1)),
            ("the first three layers' experts", HostExperts::First(3)),
            ("all experts", HostExperts::All),
        ] {
            let deployment = Deployment {
                host_experts,
                ..split()
            };
            add(&format!("{over}, {name} on the host"), deployment);
        }
        let kv_device = Some("cpu".to_owned());
        add(
            &format!("{over}, the cache on the host"),
            Deployment {
                kv_device,
                ..split()
            },
        );
        let single = Override {
            pattern: Pattern::new("blk.1.ffn_down_exps.weight").unwrap(),
            device: format!("cpu:1/{n}"),
        };
        let overrides = vec![single];
        add(
            &format!("{over}, a tensor on one member"),
            Deployment {
                overrides,
                ..split()
            },
        );
        for experts in [ExpertSplit::Width, ExpertSplit::Experts] {
            add(
                &format!("{over}, experts by {experts:?}"),
                Deployment { experts, ..split() },
            );
        }
    }
    all
}

/// Devices that are not joined, with single things elsewhere.
fn pinned() -> Vec<(String, Placement)> {
    let one = || Placement {
        devices: cpu_members(2),
        spread: Spread::One(0),
        pins: Vec::new(),
        stream_experts_from: None,
    };
    let kind = |kind, device, layers| Pin {
        leaves: Leaves::Kind(kind),
        layers,
        device,
        origin: "a test".to_owned(),
    };
    let all = [
        ("layers over 2", by_layer(cpu_members(2))),
        ("layers over 3", by_layer(cpu_members(3))),
        (
            "experts of the first layer elsewhere",
            Placement {
                pins: vec![kind(RoleKind::Experts, 1, Some(0..1))],
                ..one()
            },
        ),
        (
            "all experts elsewhere",
            Placement {
                pins: vec![kind(RoleKind::Experts, 1, None)],
                ..one()
            },
        ),
        (
            "experts streamed to the tokens",
            Placement {
                pins: vec![kind(RoleKind::Experts, 1, None)],
                stream_experts_from: Some(4),
                ..one()
            },
        ),
        (
            "KV elsewhere",
            Placement {
                pins: vec![kind(RoleKind::Kv, 1, None)],
                ..one()
            },
        ),
        (
            "one tensor elsewhere",
            Placement {
                pins: vec![pin("blk.1.ffn_down_exps.weight", 1)],
                ..one()
            },
        ),
        (
            "every other layer elsewhere",
            Placement {
                pins: vec![pin("blk.*[13579].*", 1)],
                ..one()
            },
        ),
    ];
    all.map(|(name, placement)| (name.to_owned(), placement))
        .into()
}

/// A model in every placement.
fn wherever_its_parts_lie(fixture: &str) {
    same_as_one(fixture, pinned());
    same_as_one(fixture, splits(SplitMode::Layer));
    same_as_one(fixture, splits(SplitMode::Tensor));
    same_as_one(fixture, mixed());
}

#[test]
fn the_f32_model_is_the_same_wherever_its_parts_lie() {
    wherever_its_parts_lie("qwen3moe/small-f32.gguf");
}

#[test]
fn the_mix_of_32_blocks_is_the_same_wherever_its_parts_lie() {
    wherever_its_parts_lie("qwen3moe/small-mix32.gguf");
}

#[test]
fn the_q8_0_model_is_the_same_wherever_its_parts_lie() {
    wherever_its_parts_lie("qwen3moe/small-q8_0.gguf");
}

#[test]
fn the_mix_of_256_blocks_is_the_same_wherever_its_parts_lie() {
    wherever_its_parts_lie("qwen3moe/k-kmix.gguf");
}

#[test]
fn the_demo_is_the_same_wherever_its_parts_lie() {
    wherever_its_parts_lie(DEMO);
}

/// The greedy answer to a question.
fn answer(model: &Arc<Model>, question: &str) -> String {
    let chat = model.chat_template().expect("a template");
    let prompt = chat.render(&[Message::new("user", question)], &RenderOptions::default());
    let options = EncodeOptions {
        parse_special: true,
        ..EncodeOptions::default()
    };
    let ids = model
        .tokenizer()
        .unwrap()
        .encode(&prompt.unwrap(), options)
        .unwrap();
    let mut sampler = Sampler::new(SamplerConfig::default(), 0).expect("greedy");
    let limits = GenerateOptions {
        max_tokens: Some(48),
        ..GenerateOptions::default()
    };
    let mut go_on = |_: ggrs_model::Event<'_>| ControlFlow::Continue(());
    let mut session = open(model, 128, DType::F16);
    let generation = session.generate(&ids, &mut sampler, &limits, &mut go_on);
    generation.expect("it answers").text
}

#[test]
fn the_demo_gives_the_same_answers_at_full_speed_however_it_is_split() {
    let questions = demo_questions(1);
    let questions = [0, 80, 150].map(|i| &questions[i]);
    let tensors = |n| with_host(n, SplitMode::Tensor, &[]);
    let deployments = [
        ("one device", with_host(1, SplitMode::None, &[])),
        ("tensors over 2", tensors(2)),
        ("tensors over 3", tensors(3)),
        ("layers over 2", with_host(2, SplitMode::Layer, &[])),
        (
            "tensors over 2, experts of two layers on the host",
            Deployment {
                host_experts: HostExperts::First(2),
                ..tensors(2)
            },
        ),
    ];
    for (name, deployment) in deployments {
        let model = load(DEMO, deployment.placement().unwrap(), Precision::Fast);
        for question in questions {
            let text = answer(&model, &question.question);
            assert_eq!(text, question.answer, "{name}: {}", question.question);
        }
    }
}

fn n_collectives(plan: &Plan) -> usize {
    let steps = plan.steps.iter();
    steps
        .filter(|s| matches!(plan.graph.node(s.node).op, Op::Collective(_)))
        .count()
}

/// A split that kept everything everywhere would give the same logits, too.
#[test]
fn an_even_split_leaves_each_member_its_part_and_meets_twice_per_layer() {
    for (fixture, n_layers) in [
        ("qwen3moe/small-f32.gguf", 4),
        ("qwen3moe/k-kmix.gguf", 2),
        (DEMO, 4),
    ] {
        let file = GgufFile::open(fixture_path(fixture)).unwrap();
        let session = SessionOptions {
            n_ctx: Some(256),
            n_batch: 64,
            ..SessionOptions::default()
        };
        let plan = |deployment: &Deployment, n_tokens| -> SchedPlan {
            let placement = deployment.placement().unwrap();
            let load = LoadOptions::default();
            preview(&file, &placement, &load, &session, n_tokens).unwrap()
        };
        for (n, n_tokens) in [(2, 1), (2, 64), (3, 1), (3, 64), (4, 1), (4, 64)] {
            let whole = plan(&by_tensor(1, &[]), n_tokens).device_bytes().remove(0);
            let split = plan(&by_tensor(n, &[]), n_tokens);
            let members = split.device_bytes();
            assert_eq!(members.len(), n);
            for member in &members {
                let what = format!("{fixture}, {n_tokens} tokens: {member:?} of {whole:?}");
                assert!(member.weights * 4 < whole.weights * 3, "{what}");
                // The demo's largest value, what its experts answer, is a partial sum of full size on every member.
                let is_smaller = fixture == DEMO || member.arena < whole.arena;
                assert!(is_smaller && member.arena <= whole.arena, "{what}");
            }
            let states: u64 = members.iter().map(|m| m.states).sum();
            assert!(
                n > 2 || states == whole.states,
                "{fixture}: {states} {whole:?}"
            );
            for member in &split.parts[0].plan.members {
                assert_eq!(n_collectives(member), 2 * n_layers, "{fixture} over {n}");
            }
        }
    }
}
