//! Heads over members: more members than key heads, members without any, one key head for all.

use ggrs_core::device::Precision;
use ggrs_core::{Cut, DType, GraphBuilder, Link, Role, RoleKind, Sharding, Stretch};
use ggrs_meta::{ExpertSplit, MetaDevice, MetaOptions};
use ggrs_sched::Placement;
use ggrs_tests::placed::{cpu_members, load, nmse, open, run};

use crate::joined::{cpu_split, joined, load_split, plan_of};
use crate::placed_graph::{Scene, distance, runner, same_as_one_when_split};
use crate::small_graphs::{
    Experts, Heads, at_positions, attention, attention_scene, experts, experts_scene, step_inputs,
};

const PROMPT: [u32; 7] = [3, 141, 59, 26, 53, 58, 97];

/// A fixture model split over members of the CPU answers as on one device.
fn same_model(fixture: &str, splits: &[(usize, &[f64])]) {
    let one = load(fixture, cpu_members(1).remove(0), Precision::Exact);
    let (expected, tokens) = run(&mut open(&one, 64, DType::F32), &PROMPT, 6);
    for (n, ratios) in splits {
        let what = format!("{fixture} over {n} members {ratios:?}");
        let model = load_split(fixture, cpu_split(*n, ratios), Precision::Exact);
        let (logits, got) = run(&mut open(&model, 64, DType::F32), &PROMPT, 6);
        let error = nmse(&logits, &expected);
        assert!(error <= 1e-10, "{what}: NMSE {error:e}");
        assert_eq!(got, tokens, "{what}");
    }
}

/// Three and more members with two key heads: the peer makes empty slices and races on a shared temporary. In GGRS
/// members share key heads, each with its own copy.
#[test]
fn i21765_i21808_more_members_than_key_heads() {
    for n in [3, 4, 5] {
        for n_tokens in [1, 4] {
            let scene = attention_scene(2, n_tokens, 32, Heads::new(8, 2, 16));
            let what = format!("{n} members, {n_tokens} tokens");
            same_as_one_when_split(&scene, &cpu_split(n, &[]), &what);
        }
    }
}

/// The same with a whole model of four query and two key heads.
#[test]
fn i21765_i21808_a_model_with_two_key_heads_over_three_and_more() {
    same_model("qwen3moe/small-f32.gguf", &[(3, &[]), (4, &[]), (5, &[])]);
}

/// Members with nothing of a tensor and sums that are added up late: the peer's perplexity doubled in silence. GGRS
/// gives the logits of one device.
#[test]
fn i22391_i22489_empty_shares_and_late_sums() {
    let splits: [(usize, &[f64]); 4] = [
        (3, &[1.0, 0.0, 1.0]),
        (2, &[1.0, 0.0]),
        (2, &[0.0, 1.0]),
        (4, &[0.0, 5.0, 0.0, 1.0]),
    ];
    // Three members on a width of two blocks: even shares leave one with nothing as well.
    for (n, ratios) in splits.into_iter().chain([(3, &[][..])]) {
        for experts in [ExpertSplit::Width, ExpertSplit::Experts] {
            let sizes = Experts {
                n: 2,
                n_used: 2,
                width: 64,
                weights: DType::Q8_0,
            };
            let options = MetaOptions {
                ratios: ratios.to_vec(),
                experts,
                ..MetaOptions::default()
            };
            let device = MetaDevice::new(cpu_members(n), options).unwrap();
            let scene = experts_scene(3, 32, sizes);
            let what = format!("{n} members {ratios:?}, by {experts:?}");
            let lies = device.split_plan(&scene.graph).unwrap();
            let Sharding::Split(split) = lies.sharding("blk.0.ffn_up_exps.weight") else {
                panic!("{what}: not split");
            };
            assert!((0..n).any(|m| split.is_empty(m)), "{what}: {split}");
            let by = if experts == ExpertSplit::Width { 1 } else { 0 };
            assert_eq!(split.axis(), by, "{what}");
            same_as_one_when_split(&scene, &Placement::on(device), &what);
        }
    }
    same_model("qwen3moe/small-f32.gguf", &splits[..2]);
    same_model(
        "qwen3moe/small-q8_0.gguf",
        &[(3, &[]), (3, &[1.0, 0.0, 1.0])],
    );
}

/// One key head for all query heads: the peer asserts that an axis is not split. GGRS gives every member the head.
#[test]
fn i24015_one_key_head() {
    for (n, ratios) in [(2, &[][..]), (3, &[]), (4, &[3.0, 1.0, 0.0, 2.0])] {
        for n_tokens in [1, 5] {
            let scene = attention_scene(2, n_tokens, 32, Heads::new(6, 1, 16));
            same_as_one_when_split(
                &scene,
                &cpu_split(n, ratios),
                &format!("{n} members {ratios:?}"),
            );
        }
    }
}

/// Gates on the heads' answers and sinks in their scores were split otherwise than the heads in the peer. In GGRS all
/// that belongs to a head is one group.
#[test]
fn i27574_gates_and_sinks_follow_their_heads() {
    for (n, n_kv) in [(6, 1), (8, 2), (4, 4)] {
        for (members, ratios) in [(2, &[][..]), (3, &[3.0, 1.0, 1.0]), (5, &[])] {
            let heads = Heads {
                gated: true,
                ..Heads::new(n, n_kv, 16)
            };
            let scene = attention_scene(2, 3, 32, heads);
            let what = format!("{n}/{n_kv} heads over {members} members {ratios:?}");
            same_as_one_when_split(&scene, &cpu_split(members, ratios), &what);
        }
    }
}

/// Nine and ten members on tiny widths: the peer asserts ratios of whole slices. In GGRS some members get nothing.
#[test]
fn i24486_i26837_nine_and_ten_members() {
    for n in [9, 10] {
        let mut b = GraphBuilder::new();
        let (x, pages) = step_inputs(&mut b, 3, 16);
        let y = attention(&mut b, 0, x, pages, Heads::new(4, 2, 8));
        let x = b.add(x, y).unwrap();
        let y = experts(
            &mut b,
            0,
            x,
            Experts {
                n: 4,
                n_used: 2,
                width: 16,
                weights: DType::F32,
            },
        );
        let y = b.add(x, y).unwrap();
        b.output("y", y).unwrap();
        let scene = at_positions(Scene::new(b.seal().unwrap()), 0, 3);
        same_as_one_when_split(&scene, &cpu_split(n, &[]), &format!("{n} members"));
    }
    same_model("qwen3moe/small-f32.gguf", &[(9, &[]), (10, &[])]);
}

/// Everything to one of two members should be that member alone; in the peer it is another path with another answer.
/// In GGRS the sums with nothing change no bit.
#[test]
fn i13612_all_to_one_member_is_that_member() {
    let one = load(
        "qwen3moe/small-f32.gguf",
        cpu_members(1).remove(0),
        Precision::Exact,
    );
    let (expected, _) = run(&mut open(&one, 64, DType::F32), &PROMPT, 4);
    for ratios in [[100.0, 0.0], [0.0, 100.0]] {
        let split = cpu_split(2, &ratios);
        let model = load_split("qwen3moe/small-f32.gguf", split, Precision::Exact);
        let held: Vec<u64> = plan_of(&model, 1)
            .device_bytes()
            .iter()
            .map(|d| d.weights)
            .collect();
        assert!(held.iter().max() > held.iter().min(), "{held:?}");
        let (logits, _) = run(&mut open(&model, 64, DType::F32), &PROMPT, 4);
        assert!(logits == expected, "{ratios:?}");
    }
}

/// A projection to queries, keys and values in one weight: the peer's slices of it have several segments, and the
/// second call asserts that there is one. GGRS splits each part with its heads, call after call.
#[test]
fn i21876_a_fused_projection_is_called_twice() {
    let (n, n_kv, width, n_embd) = (4, 2, 16, 32);
    for (members, ratios) in [(2, &[][..]), (4, &[]), (3, &[2.0, 1.0, 1.0])] {
        let mut b = GraphBuilder::new();
        let x = b.input("x", DType::F32, [2, n_embd]).unwrap();
        let rows = (n + 2 * n_kv) * width;
        let w = b.weight("qkv", DType::F32, [rows, n_embd]).unwrap();
        let mut link = Link::new("heads", Cut::Heads, n, 0, width);
        link.stretches.extend(
            [Stretch {
                unit: width,
                shared_by: n / n_kv,
            }; 2],
        );
        b.describe(w, Role::in_layer(RoleKind::Attention, 0).with(link))
            .unwrap();
        let all = b.matmul(w, x).unwrap();
        let mut at = 0;
        for (name, n) in [("q", n), ("k", n_kv), ("v", n_kv)] {
            let part = b.slice(all, 1, at, n * width).unwrap();
            b.output(name, part).unwrap();
            at += n * width;
        }
        let scene = Scene::new(b.seal().unwrap());
        let device = joined(cpu_members(members), ratios);
        let lies = device
            .split_plan(&scene.graph)
            .unwrap()
            .sharding("qkv")
            .to_string();
        assert!(lies.starts_with("split"), "{lies}");
        let placement = Placement::on(device);
        let plan = scene.plan(&placement).unwrap();
        let bindings = scene.bind(&placement, &plan).unwrap();
        let mut compiled = runner(&placement, &plan, &bindings).unwrap();
        let expected = scene.expected();
        for call in 0..3 {
            let answers = scene.run(&mut compiled).unwrap();
            let error = distance(&answers, &expected);
            assert!(
                error <= 1e-10,
                "call {call}, {members} members: NMSE {error:e}"
            );
        }
    }
}
