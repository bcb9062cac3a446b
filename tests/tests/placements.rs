//! Whole models over several devices: whatever lies where, logits and greedy tokens are those of one device.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use ggrs_core::DType;
use ggrs_core::RoleKind;
use ggrs_core::device::Precision;
use ggrs_sched::{Leaves, Pin, Placement, Spread};
use ggrs_tests::placed::{by_layer, by_tensor, cpu_members, load, nmse, open, pin, run};

const PROMPT: [u32; 9] = [3, 141, 59, 26, 53, 58, 97, 93, 23];

/// Logits under a placement against those of one device.
fn same_as_one(fixture: &str, placements: Vec<(&str, Placement)>) {
    let one = load(fixture, cpu_members(1).remove(0), Precision::Exact);
    let (expected, tokens) = run(&mut open(&one, 128, DType::F32), &PROMPT, 12);
    for (name, placement) in placements {
        println!("{fixture}, {name}");
        let model = load(fixture, placement, Precision::Exact);
        let (actual, got) = run(&mut open(&model, 128, DType::F32), &PROMPT, 12);
        let error = nmse(&actual, &expected);
        assert!(error < 1e-10, "{fixture}, {name}: NMSE {error:e}");
        assert_eq!(got, tokens, "{fixture}, {name}");
    }
}

fn placements() -> Vec<(&'static str, Placement)> {
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
    vec![
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
    ]
}

#[test]
fn fixture_models_are_the_same_wherever_their_parts_lie() {
    same_as_one("qwen3moe/small-f32.gguf", placements());
}

#[test]
fn the_demo_is_the_same_wherever_its_parts_lie() {
    same_as_one("demo/demo-q4_k_m.gguf", placements());
}

/// Every tensor split: evenly and not, with members that get nothing, over more members than there are key heads.
fn tensor_splits() -> Vec<(&'static str, Placement)> {
    let split = |n, shares: &[f64]| by_tensor(n, shares).placement().expect("a placement");
    vec![
        ("tensors over 1", split(1, &[])),
        ("tensors over 2", split(2, &[])),
        ("tensors over 2 as 3:1", split(2, &[3.0, 1.0])),
        ("tensors over 2 as 1:0", split(2, &[1.0, 0.0])),
        ("tensors over 2 as 30:25", split(2, &[30.0, 25.0])),
        ("tensors over 3", split(3, &[])),
        ("tensors over 4", split(4, &[])),
        ("tensors over 5", split(5, &[])),
    ]
}

#[test]
fn fixture_models_are_the_same_with_every_tensor_split() {
    for fixture in ["small-f32", "small-mix32", "small-q8_0", "k-kmix"] {
        same_as_one(&format!("qwen3moe/{fixture}.gguf"), tensor_splits());
    }
}

#[test]
fn the_demo_is_the_same_with_every_tensor_split() {
    same_as_one("demo/demo-q4_k_m.gguf", tensor_splits());
}
