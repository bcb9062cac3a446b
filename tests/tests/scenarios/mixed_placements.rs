//! Tensor split together with other placements: a cache, experts or single tensors elsewhere, groups in layers, members
//! that are not alike.

use ggrs_core::device::Precision;
use ggrs_core::{DType, PlanError, Sharding};
use ggrs_model::{
    Deployment, HostExperts, LoadOptions, Model, Override, Session, SessionError, SessionOptions,
    SplitMode,
};
use ggrs_sched::{CopySource, Pattern, SchedError, SchedPlan};
use ggrs_tests::fake::{FakeSpec, FakeWorld, Mask, Refuse};
use ggrs_tests::fixtures::{DemoExpectations, fixture_path};
use ggrs_tests::placed::{cpu_members, load, nmse, open, run};

use crate::joined::{plan_of, split_over, tensor_deployment};
use crate::placed_graph::{n_split, same_as_one_when_split, says};
use crate::small_graphs::{Heads, attention_scene};

const DEMO: &str = "demo/demo-q4_k_m.gguf";
const SMALL: &str = "qwen3moe/small-f32.gguf";
const PROMPT: [u32; 9] = [3, 141, 59, 26, 53, 58, 97, 93, 23];

/// A question for the demo, any tokens for others.
fn prompt(fixture: &str) -> Vec<u32> {
    if fixture == DEMO {
        let demo = DemoExpectations::load().expect("the demo's record");
        demo.cases[0].ids.clone()
    } else {
        PROMPT.to_vec()
    }
}

/// Models on a deployment answer as on one device, prefill and decode; returns the plan of a step.
fn same_model(fixture: &str, deployment: &Deployment, what: &str) -> SchedPlan {
    let one = load(fixture, cpu_members(1).remove(0), Precision::Exact);
    let prompt = prompt(fixture);
    let (expected, tokens) = run(&mut open(&one, 128, DType::F32), &prompt, 8);
    let placement = deployment.placement();
    let placement = placement.unwrap_or_else(|e| panic!("{what}: {e}"));
    let model = load(fixture, placement, Precision::Exact);
    let (logits, got) = run(&mut open(&model, 128, DType::F32), &prompt, 8);
    let error = nmse(&logits, &expected);
    assert!(error <= 1e-10, "{fixture}, {what}: NMSE {error:e}");
    assert_eq!(got, tokens, "{fixture}, {what}");
    plan_of(&model, 1)
}

fn home<'a>(plan: &'a SchedPlan, leaf: &str) -> &'a str {
    let home = plan.homes.iter().find(|h| h.name == leaf).expect("a leaf");
    &plan.devices[home.device]
}

/// The cache on the host under tensor split: the peer treats its copies as whole on every device, so that each one's
/// queries read other keys, without an error. GGRS gathers the queries, attends on the host and gives the members
/// the answer.
#[test]
fn i21717_the_cache_on_the_host_under_tensor_split() {
    for fixture in [SMALL, DEMO] {
        for n in [2, 3] {
            let deployment = Deployment {
                kv_device: Some("cpu".to_owned()),
                ..tensor_deployment(n, &[])
            };
            let plan = same_model(
                fixture,
                &deployment,
                &format!("{n} members, cache on the host"),
            );
            assert_eq!(home(&plan, "kv.0.k"), "cpu:0");
            assert!(
                n_split(&plan) > 0 && plan.copies.len() > 1,
                "{}",
                plan.explain()
            );
        }
    }
}

/// Experts of the first layers on the host under tensor split: the peer's copy of the chosen experts asserts. Prefill
/// and decode of whole models.
#[test]
fn i25028_experts_of_the_first_layers_on_the_host_under_tensor_split() {
    for fixture in [SMALL, DEMO] {
        for (host_experts, n) in [
            (HostExperts::First(1), 2),
            (HostExperts::First(3), 3),
            (HostExperts::All, 2),
        ] {
            let deployment = Deployment {
                host_experts,
                ..tensor_deployment(n, &[])
            };
            let what = format!("{host_experts:?} on the host, {n} members");
            let plan = same_model(fixture, &deployment, &what);
            assert_eq!(home(&plan, "blk.0.ffn_up_exps.weight"), "cpu:0");
            if host_experts == HostExperts::First(1) {
                assert_ne!(home(&plan, "blk.1.ffn_up_exps.weight"), "cpu:0");
            }
            assert!(n_split(&plan) > 0);
        }
    }
}

/// Experts on the host are slow for prompts under tensor split, because the peer runs them where they are. GGRS copies
/// them to the members from a number of tokens on, and runs them on the host below it.
#[test]
fn i26490_experts_on_the_host_are_streamed_to_the_members_for_prompts() {
    let deployment = Deployment {
        host_experts: HostExperts::First(2),
        stream_experts_from: Some(4),
        ..tensor_deployment(2, &[])
    };
    for fixture in [SMALL, DEMO] {
        let plan = same_model(fixture, &deployment, "experts streamed");
        let from_file = |plan: &SchedPlan| {
            let copies = plan.copies.iter();
            copies.filter(|c| c.from == CopySource::File).count()
        };
        assert_eq!(from_file(&plan), 0, "one token goes to the experts");
        let model = load(fixture, deployment.placement().unwrap(), Precision::Exact);
        let plan = plan_of(&model, 8);
        assert!(from_file(&plan) >= 4, "eight tokens: {}", plan.explain());
    }
}

/// The cache of some layers on the host and of the others split, and attention on one member with experts on both:
/// the peer has no such placements. In GGRS they are pins like any other.
#[test]
fn generelschwerz_64_67_parts_of_the_cache_or_of_the_layers_are_split() {
    let on = |pattern: &str, device: &str| Override {
        pattern: Pattern::new(pattern).unwrap(),
        device: device.to_owned(),
    };
    for fixture in [SMALL, DEMO] {
        let some = Deployment {
            overrides: vec![on("kv.[12].*", "cpu")],
            ..tensor_deployment(2, &[])
        };
        let plan = same_model(fixture, &some, "the cache of two layers on the host");
        assert_eq!(home(&plan, "kv.1.k"), "cpu:0");
        assert_ne!(home(&plan, "kv.3.k"), "cpu:0");
        let attention = Deployment {
            overrides: vec![on("blk.*.attn_*", "cpu:1/3"), on("kv.*", "cpu:1/3")],
            ..tensor_deployment(3, &[])
        };
        let plan = same_model(fixture, &attention, "attention on one member");
        assert_eq!(home(&plan, "blk.0.attn_output.weight"), "cpu:1/3");
        let is_split = |name: &str| {
            let mut weights = plan.parts.iter().flat_map(|p| &p.plan.weights);
            let slot = weights.find(|w| w.name == name).expect("a weight");
            let shards = slot.shards.as_ref();
            shards.is_some_and(|s| matches!(s.sharding, Sharding::Split(_)))
        };
        assert!(is_split("blk.0.ffn_up_exps.weight") && !is_split("blk.0.attn_q.weight"));
    }
}

/// One tensor on a single member under tensor split: the peer knows only all members or the CPU. In GGRS a member is a
/// device that can be named.
#[test]
fn i21686_a_tensor_on_a_single_member_under_tensor_split() {
    let on = |pattern: &str, device: &str| Override {
        pattern: Pattern::new(pattern).unwrap(),
        device: device.to_owned(),
    };
    let deployment = Deployment {
        overrides: vec![
            on("blk.1.ffn_down_exps.weight", "cpu:1/2"),
            on("blk.2.attn_*.weight", "cpu:0/2"),
            on("output.weight", "cpu"),
        ],
        ..tensor_deployment(2, &[3.0, 1.0])
    };
    let plan = same_model(SMALL, &deployment, "tensors on single members");
    assert_eq!(home(&plan, "blk.1.ffn_down_exps.weight"), "cpu:1/2");
    assert_eq!(home(&plan, "blk.2.attn_q.weight"), "cpu:0/2");
    assert_eq!(home(&plan, "output.weight"), "cpu:0");
    assert!(n_split(&plan) > 0);
    // A device that nobody named.
    let unknown = Deployment {
        overrides: vec![on("blk.*", "cpu:7/9")],
        ..tensor_deployment(2, &[])
    };
    let error = unknown.placement().err().expect("no such device");
    says(&error, &["blk.*", "cpu:7/9", "cpu:0/2", "cpu:1/2"]);
}

/// Two groups of two members, the layers over the groups: the peer cannot say so.
#[test]
fn feature_table_layers_over_groups_that_split_tensors() {
    let members = cpu_members(4);
    let deployment = Deployment {
        devices: members.chunks(2).map(<[_]>::to_vec).collect(),
        split: SplitMode::Layer,
        ..Deployment::default()
    };
    for fixture in [SMALL, DEMO] {
        let plan = same_model(fixture, &deployment, "two groups of two members");
        assert_eq!(plan.parts.len(), 2);
        assert_ne!(home(&plan, "kv.0.k"), home(&plan, "kv.3.k"));
        for part in &plan.parts {
            assert_eq!(part.plan.members.len(), 2);
        }
        assert!(n_split(&plan) > 8);
    }
}

fn masked(refuse: Refuse) -> FakeSpec {
    FakeSpec::default().mask(Mask::refusing([refuse]))
}

/// The peer asks members whether they can run the whole op and never whether they can run their part. GGRS asks each
/// member for its own operands: the whole attention has four queries per key head, a quarter of it has two.
#[test]
fn i26502_i24376_members_are_asked_for_their_own_part() {
    let scene = attention_scene(1, 2, 32, Heads::new(8, 2, 16));
    let refuses = || masked(Refuse::GqaRatioNotIn(&[4]));
    let world = FakeWorld::new([refuses(), refuses()]).unwrap();
    same_as_one_when_split(
        &scene,
        &split_over(world.open_all().unwrap(), &[]),
        "whole groups",
    );
    world.audit().unwrap();

    let any = FakeSpec::default;
    let world = FakeWorld::new([any(), any(), refuses(), any()]).unwrap();
    let error = scene
        .plan(&split_over(world.open_all().unwrap(), &[]))
        .unwrap_err();
    assert!(
        matches!(error, SchedError::Plan(PlanError::Member { .. })),
        "{error}"
    );
    says(
        &error,
        &[
            "member 2 (fake:2)",
            "attention",
            "attention/",
            "query heads per key head is 2",
        ],
    );
}

/// What memory is for reaches the members: weights and states are made as such on each, and each part of a weight is
/// loaded under its own name.
#[test]
fn i26502_members_hear_what_memory_is_for() {
    let world = FakeWorld::uniform(2).unwrap();
    let scene = attention_scene(1, 2, 32, Heads::new(4, 2, 16));
    let placement = split_over(world.open_all().unwrap(), &[]);
    let plan = scene.plan(&placement).unwrap();
    let bindings = scene.bind(&placement, &plan).unwrap();
    let leaks = world.check_no_leaks().unwrap_err().to_string();
    for what in [
        "weight \"blk.0.attn_q.weight\"",
        "weight \"blk.0.attn_output.weight\"",
        "state \"kv.0.k\"",
    ] {
        assert_eq!(leaks.matches(what).count(), 2, "{what}: {leaks}");
    }
    // Two of four heads, one of two key heads: half of everything on each.
    let weights: u64 = plan.parts[0].plan.weights.iter().map(|w| w.bytes).sum();
    let states: u64 = plan.parts[0].plan.states.iter().map(|s| s.bytes).sum();
    let held = [world.held_bytes(0), world.held_bytes(1)];
    assert_eq!(held, [(weights + states) / 2; 2]);
    drop(bindings);
    world.assert_no_leaks();
}

/// A KV type that one member cannot attend to: the peer asserts on an unknown split. GGRS's error names member, type
/// and kernels when the session is opened; with a type that all read it runs.
#[test]
fn i27116_a_kv_type_that_a_member_cannot_read_is_named() {
    let world = FakeWorld::new([
        FakeSpec::default(),
        masked(Refuse::KvDTypeNotIn(&[DType::F32, DType::F16])),
    ])
    .unwrap();
    let placement = split_over(world.open_all().unwrap(), &[]);
    let options = LoadOptions {
        precision: Precision::Exact,
        ..LoadOptions::default()
    };
    let model = Model::load(fixture_path(SMALL), placement, options, &mut |_, _| {}).unwrap();
    let session = |kv_dtype| {
        let options = SessionOptions {
            n_ctx: Some(64),
            n_batch: 16,
            kv_dtype,
            ..SessionOptions::default()
        };
        Session::new(&model, &options)
    };
    let error = session(DType::Q4_0).err().expect("a refusal");
    assert!(matches!(error, SessionError::Plan { .. }), "{error}");
    says(
        &error,
        &["member 1 (fake:1)", "attention", "key cache as Q4_0"],
    );
    let mut session = session(DType::F16).unwrap();
    let (logits, _) = run(&mut session, &PROMPT, 2);
    assert!(logits.iter().all(|x| x.is_finite()));
}

/// Members of different makes: alignment, largest buffer, memory and kernels differ. The peer asserts that buffers are
/// alike; GGRS plans each member by its own limits.
#[test]
fn i25594_unlike_members() {
    let specs = [
        FakeSpec::default().alignment(64),
        FakeSpec::default()
            .alignment(4096)
            .max_buffer(1 << 20)
            .memory(2 << 20),
        FakeSpec::default()
            .alignment(512)
            .mask(Mask::default().with_fast("quick_matmul", "matmul", Refuse::Strided)),
    ];
    let world = FakeWorld::new(specs).unwrap();
    let placement = split_over(world.open_all().unwrap(), &[3.0, 1.0, 2.0]);
    let scene = attention_scene(2, 3, 32, Heads::new(12, 4, 16));
    let plan = scene.plan(&placement).unwrap();
    let kernels: Vec<bool> = plan.parts[0]
        .plan
        .members
        .iter()
        .map(|m| m.steps.iter().any(|s| s.route.kernel == "quick_matmul"))
        .collect();
    assert_eq!(
        kernels,
        [false, false, true],
        "each member has its own kernels"
    );
    same_as_one_when_split(&scene, &placement, "unlike members");
    drop(placement);
    world.audit().unwrap();
    world.assert_no_leaks();

    let poor = [FakeSpec::default(), FakeSpec::default().memory(4_000)];
    let world = FakeWorld::new(poor).unwrap();
    let placement = split_over(world.open_all().unwrap(), &[]);
    let error = scene.answer(&placement).unwrap_err();
    says(&*error, &["fake:1", "memory"]);
    drop(placement);
    world.assert_no_leaks();
}
