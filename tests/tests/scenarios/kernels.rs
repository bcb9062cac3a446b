//! Kernels that are not there for some sizes or types: refused when planned with every reason, or the generic one taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use ggrs_core::device::{Device, Precision, RouteRequest};
use ggrs_core::ops::Op;
use ggrs_core::plan::{Plan, plan};
use ggrs_core::{DType, PlanError, TensorDesc, ValueId};
use ggrs_sched::{Placement, SchedError, Spread};
use ggrs_tests::fake::{FakeSpec, FakeWorld, Mask, Refuse};
use ggrs_tests::placed::{by_layer, cpu_members};

use crate::joined::joined;
use crate::placed_graph::{exact, same_as_one, says};
use crate::small_graphs::{BLOCK, Heads, attention_graph, attention_scene, paged};

/// Heads of 512 with two queries per key, or a number of cells that is no multiple of 256.
fn hole() -> Refuse {
    Refuse::Any(vec![
        Refuse::All(vec![
            Refuse::HeadWidthNotIn(&[64, 128, 256]),
            Refuse::GqaRatioNotIn(&[1, 4, 8]),
        ]),
        Refuse::KvCellsNotMultipleOf(256),
    ])
}

/// The peer says that it supports an attention of 512-wide heads with two queries per key, and aborts when it finds no
/// kernel for it. GGRS routes before anything runs: without a kernel the plan is refused with each candidate's reason.
#[test]
fn i24376_i24400_i25148_seed_3_no_kernel_is_refused_when_planned() {
    let mask = Mask::refusing([hole()]).with_fast("wide_attention", "attention", hole());
    let world = FakeWorld::new([FakeSpec::default().mask(mask)]).unwrap();
    let device = world.open(0).unwrap();
    for (heads, reason) in [
        (Heads::new(4, 2, 512), "query heads per key head is 2"),
        (
            Heads::new(4, 1, 512),
            "number of keys is 64, not a multiple of 256",
        ),
    ] {
        let scene = attention_scene(1, 2, 32, heads);
        let error = scene.plan(&Placement::on(Arc::clone(&device))).unwrap_err();
        let SchedError::Plan(PlanError::Unsupported { source, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(source.candidates.len(), 2, "every candidate");
        says(&error, &["attention", "fake:0", "wide_attention", reason]);
        let generic = &source.candidates[1];
        assert!(
            generic.kernel.starts_with("attention/"),
            "{}",
            generic.kernel
        );
        assert!(generic.reason.to_string().contains(reason));
    }
}

/// With a generic kernel beside the fast one, the generic one is taken, and the plan says so.
#[test]
fn i24376_i24400_i25148_seed_3_the_generic_kernel_is_taken() {
    let mask = Mask::default().with_fast("wide_attention", "attention", hole());
    let world = FakeWorld::new([FakeSpec::default().mask(mask)]).unwrap();
    let placement = Placement::on(world.open(0).unwrap());
    let scene = attention_scene(1, 2, 32, Heads::new(4, 2, 512));
    let plan = scene.plan(&placement).unwrap();
    let explained = plan.explain();
    let line = explained
        .lines()
        .find(|l| l.contains("wide_attention"))
        .expect("the reason");
    assert!(
        line.contains("attention/") && line.contains("query heads per key head is 2"),
        "{line}"
    );
    same_as_one(&scene, &placement, "the generic kernel");
}

/// The peer's kernel choice has holes that depend on head width, the GQA ratio that a split leaves, KV padding, query
/// length and KV type. GGRS's generic kernel takes every combination, for the heads of every member of 1 to 4.
#[test]
fn i24376_i24400_i25148_seed_3_there_is_always_a_kernel() {
    let device = cpu_members(1).remove(0);
    let mut routed = 0;
    for width in [64, 80, 128, 256, 512] {
        for (n, n_kv) in [(8, 8), (8, 4), (12, 4), (8, 2), (16, 2), (6, 1), (10, 2)] {
            for members in 1..=4 {
                for (heads, kv_heads) in shares(n, n_kv, members) {
                    for n_blocks in [1, 3, 16, 17] {
                        for n_tokens in 1..=5 {
                            for kv in [
                                DType::F32,
                                DType::F16,
                                DType::BF16,
                                DType::Q8_0,
                                DType::Q4_0,
                            ] {
                                if width % kv.block_elems() != 0 {
                                    continue;
                                }
                                let q = [n_tokens, heads, width];
                                let cells = [n_blocks * BLOCK, kv_heads, width];
                                let what = format!(
                                    "{heads} of {n}/{n_kv} heads of {width}, {kv}, {n_blocks} pages, {n_tokens} tokens"
                                );
                                for precision in [Precision::Exact, Precision::Fast] {
                                    let chosen = route(&*device, q, cells, kv, n_blocks, precision);
                                    assert!(chosen.is_ok(), "{what}: {}", chosen.unwrap_err());
                                    routed += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(routed > 10_000, "{routed} combinations");
}

/// For each member its query heads and the key heads that they read.
fn shares(n: usize, n_kv: usize, members: usize) -> Vec<(usize, usize)> {
    let per_key = n / n_kv;
    let bounds = |m: usize| n * m / members;
    let heads = (0..members).map(|m| bounds(m)..bounds(m + 1));
    let heads = heads.filter(|r| !r.is_empty());
    heads
        .map(|r| {
            let keys = (r.end - 1) / per_key - r.start / per_key + 1;
            // A share that is not a whole number of groups reads each key head by its own queries.
            if r.len() % keys == 0 {
                (r.len(), keys)
            } else {
                (r.len(), r.len())
            }
        })
        .collect()
}

fn route(
    device: &dyn Device,
    q: [usize; 3],
    cells: [usize; 3],
    kv: DType,
    n_blocks: usize,
    precision: Precision,
) -> Result<String, ggrs_core::Unsupported> {
    let op = Op::from(paged(q[2]));
    let ids = TensorDesc::new(DType::I32, [q[0]]);
    let (queries, keys) = (TensorDesc::new(DType::F32, q), TensorDesc::new(kv, cells));
    let table = TensorDesc::new(DType::I32, [1, n_blocks]);
    let inputs = [&queries, &keys, &keys, &ids, &ids, &table];
    let request = RouteRequest {
        op: &op,
        inputs: &inputs,
        forms: &[None; 6],
        outputs: &[&queries],
        precision,
    };
    device
        .route(&request)
        .map(|route| route.kernel.into_owned())
}

/// A KV type that one device's attention cannot read sends the peer's attention to the CPU, where it meets split
/// neighbours and asserts. GGRS refuses the plan, naming device, type and kernels; with a type that it reads it runs.
#[test]
fn i27116_a_kv_type_that_a_device_cannot_read_is_named() {
    let mask = Mask::refusing([Refuse::KvDTypeNotIn(&[DType::F32, DType::F16])]);
    let world = FakeWorld::new([FakeSpec::default(), FakeSpec::default().mask(mask)]).unwrap();
    let placement = by_layer(world.open_all().unwrap());
    assert!(matches!(placement.spread, Spread::Layers { .. }));
    let with = |kv| {
        attention_scene(
            2,
            3,
            32,
            Heads {
                kv,
                ..Heads::new(4, 2, 32)
            },
        )
    };
    let error = with(DType::Q4_0).plan(&placement).unwrap_err();
    says(
        &error,
        &[
            "kv.1.",
            "fake:1 cannot run it",
            "Q4_0",
            "attention/",
            "(fake:0)",
        ],
    );
    same_as_one(&with(DType::F16), &placement, "a type that both read");
    // The same on a single device.
    let alone = Placement::on(Arc::clone(&placement.devices[1]));
    let error = with(DType::Q4_0).plan(&alone).unwrap_err();
    says(&error, &["attention", "fake:1", "Q4_0"]);
    let scene = with(DType::Q4_0);
    assert!(plan(&scene.graph, &*placement.devices[0], &exact()).is_ok());
    drop((placement, alone));
    world.audit().unwrap();
}

/// The same asked through the split itself: whatever heads a member gets, its plan has a kernel for them.
#[test]
fn i24376_i24400_i25148_seed_3_every_member_of_every_split_has_a_kernel() {
    let mut ratios_seen = BTreeSet::new();
    for members in 1..=4 {
        let device = joined(cpu_members(members), &[]);
        for (n, n_kv) in [(8, 8), (8, 4), (12, 4), (8, 2), (6, 1), (10, 2)] {
            for width in [64, 512] {
                for kv in [DType::F16, DType::Q4_0] {
                    for n_tokens in [1, 5] {
                        let heads = Heads {
                            kv,
                            ..Heads::new(n, n_kv, width)
                        };
                        let graph = attention_graph(1, n_tokens, 16, heads);
                        let planned = plan(&graph, &*device, &exact());
                        let planned =
                            planned.unwrap_or_else(|e| panic!("{heads:?} over {members}: {e}"));
                        for member in &planned.members {
                            ratios_seen.extend(attention_ratio(member));
                        }
                    }
                }
            }
        }
    }
    assert!(ratios_seen.len() >= 5, "ratios of members: {ratios_seen:?}");
}

/// Query heads per key head of the attention steps of a plan.
fn attention_ratio(plan: &Plan) -> Vec<usize> {
    let nodes = plan.steps.iter().map(|s| plan.graph.node(s.node));
    let attentions = nodes.filter(|node| matches!(node.op, Op::Attention(_)));
    let heads = |v: ValueId| plan.graph.desc(v).shape.sizes()[1];
    attentions
        .map(|node| heads(node.inputs[0]) / heads(node.inputs[1]))
        .collect()
}
