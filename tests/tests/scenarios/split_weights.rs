//! Weights of a group: of several types, with partners missing, with shares that do not fit.

use std::collections::BTreeMap;

use ggrs_core::device::Precision;
use ggrs_core::ops::{GluKind, UnaryKind};
use ggrs_core::{Cut, DType, GraphBuilder, Link, PartitionError, PlanError, Role, RoleKind};
use ggrs_meta::{MetaDevice, MetaOptions};
use ggrs_sched::{Placement, SchedError};
use ggrs_tests::placed::{cpu_members, load, nmse, open, run};

use crate::joined::{cpu_split, joined, load_split};
use crate::placed_graph::{Scene, same_as_one_when_split, says};
use crate::small_graphs::{Heads, attention_scene};

const PROMPT: [u32; 6] = [3, 141, 59, 26, 53, 58];
const WIDTH: usize = 512;

/// A dense feed-forward block of these types; without `down` the hidden units are the output.
fn dense(gate: DType, up: DType, down: Option<DType>) -> Scene {
    let mut b = GraphBuilder::new();
    let n_embd = 256;
    let x = b.input("x", DType::F32, [3, n_embd]).unwrap();
    let mut weight = |name: &str, dtype, shape: [usize; 2], axis| {
        let w = b.weight(name, dtype, shape).unwrap();
        let link = Link::new("blk.0.ffn", Cut::Width, WIDTH, axis, 1);
        b.describe(w, Role::in_layer(RoleKind::Dense, 0).with(link))
            .unwrap();
        w
    };
    let gate = weight("gate", gate, [WIDTH, n_embd], 0);
    let up = weight("up", up, [WIDTH, n_embd], 0);
    let down = down.map(|dtype| weight("down", dtype, [n_embd, WIDTH], 1));
    let gated = b.matmul(gate, x).unwrap();
    let raised = b.matmul(up, x).unwrap();
    let mut y = b.glu(GluKind::Swiglu, gated, raised).unwrap();
    if let Some(down) = down {
        y = b.matmul(down, y).unwrap();
    }
    b.output("y", y).unwrap();
    Scene::new(b.seal().unwrap())
}

/// Members with uneven shares and weights of mixed types in one group: the peer rounds each tensor by its own block
/// size and then asserts that they agree. GGRS cuts the group once, by the largest block.
#[test]
fn i22817_i23843_mixed_types_in_one_group_and_uneven_shares() {
    for ratios in [&[][..], &[3.0, 1.0, 2.0], &[30.0, 25.0, 1.0]] {
        for down in [DType::Q4_K, DType::Q8_0, DType::F32, DType::Q6_K] {
            let scene = dense(DType::Q4_0, DType::Q6_K, Some(down));
            same_as_one_when_split(
                &scene,
                &cpu_split(3, ratios),
                &format!("{ratios:?}, down in {down}"),
            );
        }
    }
}

/// The same in whole models with K-quants over three members.
#[test]
fn i22817_i23843_models_of_mixed_types_over_three_uneven_members() {
    for fixture in [
        "qwen3moe/k-kmix.gguf",
        "demo/demo-q4_k_m.gguf",
        "qwen3moe/small-mix32.gguf",
    ] {
        let one = load(fixture, cpu_members(1).remove(0), Precision::Exact);
        let (expected, tokens) = run(&mut open(&one, 64, DType::F32), &PROMPT, 4);
        for ratios in [&[3.0, 1.0, 2.0][..], &[1.0, 1.0, 1.0]] {
            let what = format!("{fixture} {ratios:?}");
            let model = load_split(fixture, cpu_split(3, ratios), Precision::Exact);
            let (logits, got) = run(&mut open(&model, 64, DType::F32), &PROMPT, 4);
            let error = nmse(&logits, &expected);
            assert!(error <= 1e-10, "{what}: NMSE {error:e}");
            assert_eq!(got, tokens, "{what}");
        }
    }
}

/// A group whose partner was skipped when the model was read: the peer looks the partner up by name and asserts that
/// it is there. GGRS's groups are what is linked, so the rest is cut and gathered.
#[test]
fn i24309_a_group_without_its_partner() {
    for ratios in [&[][..], &[3.0, 1.0]] {
        let scene = dense(DType::Q8_0, DType::F16, None);
        same_as_one_when_split(
            &scene,
            &cpu_split(2, ratios),
            &format!("no down projection, {ratios:?}"),
        );
    }
    // Only the queries are linked: keys, values and cache stay whole.
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [3, 32]).unwrap();
    let q = b.weight("q", DType::F32, [64, 32]).unwrap();
    let link = Link::new("heads", Cut::Heads, 4, 0, 16);
    b.describe(q, Role::in_layer(RoleKind::Attention, 0).with(link))
        .unwrap();
    let o = b.weight("o", DType::F32, [32, 64]).unwrap();
    let y = b.matmul(q, x).unwrap();
    let y = b.matmul(o, y).unwrap();
    b.output("y", y).unwrap();
    same_as_one_when_split(
        &Scene::new(b.seal().unwrap()),
        &cpu_split(3, &[]),
        "only queries",
    );
}

/// Sizes given by the user that cut through a quantised block are rounded by the peer, or assert. GGRS refuses them
/// and names group, tensor, type and the nearest sizes that fit.
#[test]
fn i24486_sizes_that_cut_a_block_are_refused() {
    let with = |group: &str, sizes: &[usize]| {
        let options = MetaOptions {
            sizes: BTreeMap::from([(group.to_owned(), sizes.to_vec())]),
            ..MetaOptions::default()
        };
        Placement::on(MetaDevice::new(cpu_members(2), options).unwrap())
    };
    let scene = attention_scene(
        1,
        2,
        32,
        Heads {
            weights: DType::Q8_0,
            ..Heads::new(8, 8, 16)
        },
    );
    let error = scene.plan(&with("blk.0.heads", &[3, 5])).unwrap_err();
    let cuts = matches!(
        &error,
        SchedError::Plan(PlanError::Partition(PartitionError::CutsAtom {
            atom: 2,
            ..
        }))
    );
    assert!(cuts, "{error}");
    says(
        &error,
        &[
            "blk.0.heads",
            "[3, 5]",
            "blk.0.attn_output.weight",
            "Q8_0",
            "nearest",
        ],
    );
    same_as_one_when_split(&scene, &with("blk.0.heads", &[2, 6]), "sizes that fit");
    let error = scene.plan(&with("blk.0.heads", &[2, 4])).unwrap_err();
    says(&error, &["blk.0.heads", "[2, 4]", "8"]);
}

/// Shares that say nothing are refused with the rule.
#[test]
fn i24486_shares_that_do_not_fit_the_members_are_refused() {
    let scene = attention_scene(1, 2, 32, Heads::new(4, 2, 16));
    for (ratios, rule) in [
        (&[1.0][..], "one for each member"),
        (&[0.0, 0.0], "above 0"),
        (&[1.0, -1.0], "not below 0"),
        (&[f64::NAN, 1.0], "not below 0"),
    ] {
        let error = scene.plan(&cpu_split(2, ratios)).unwrap_err();
        says(&error, &["2 members", rule]);
    }
}

/// An output head that shares the embedding's table is whole on every device in the peer, a quarter of a million rows
/// computed by each. GGRS cuts it by rows of the vocabulary, and chooses tokens without gathering the logits.
#[test]
fn generelschwerz_57_ollama_18302_a_tied_head_is_cut_and_tokens_are_chosen_from_its_parts() {
    let (n_vocab, n_embd) = (61, 32);
    let mut b = GraphBuilder::new();
    let ids = b.input("ids", DType::I32, [4]).unwrap();
    let table = b
        .weight("token_embd.weight", DType::Q8_0, [n_vocab, n_embd])
        .unwrap();
    let link = Link::new("vocabulary", Cut::Vocabulary, n_vocab, 0, 1);
    b.describe(table, Role::new(RoleKind::Embedding).with(link))
        .unwrap();
    let x = b.get_rows(table, ids).unwrap();
    let x = b.rms_norm(x, None, 1e-6).unwrap();
    let x = b.unary(UnaryKind::Silu, x).unwrap();
    let logits = b.matmul(table, x).unwrap();
    let (best, tokens) = b.top_k(logits, 5).unwrap();
    let token = b.argmax(logits).unwrap();
    for (name, value) in [("best", best), ("tokens", tokens), ("token", token)] {
        b.output(name, value).unwrap();
    }
    // The first and the last row of the table, and two between.
    let scene = Scene::new(b.seal().unwrap()).ints("ids", [0, 60, 17, 31]);
    let expected = scene.expected();
    for (n, ratios) in [
        (2, &[][..]),
        (3, &[]),
        (5, &[]),
        (2, &[1.0, 0.0]),
        (3, &[3.0, 1.0, 50.0]),
    ] {
        let placement = Placement::on(joined(cpu_members(n), ratios));
        let what = format!("{n} members {ratios:?}");
        same_as_one_when_split(&scene, &placement, &what);
        let answers = scene.answer(&placement).unwrap();
        assert_eq!(answers["tokens"], expected["tokens"], "{what}");
        assert_eq!(answers["token"], expected["token"], "{what}");
    }
}
