//! States and weights on devices that cannot run what reads them, or cannot read each other's memory.

use std::sync::Arc;

use ggrs_core::device::Device;
use ggrs_core::{BindError, DType, DeviceError, RoleKind};
use ggrs_sched::{Leaves, Pin, Placement, SchedError, Spread};
use ggrs_tests::fake::{FakeSpec, FakeWorld, Mask, Refuse};
use ggrs_tests::placed::{cpu_members, pin};

use crate::placed_graph::{Scene, distance, runner, same_as_one, says};
use crate::small_graphs::{Heads, at_positions, attention_graph, attention_scene};

/// `fake:0` has all kernels, `fake:1` lacks attention.
fn without_attention() -> FakeWorld {
    let lacking = FakeSpec::default().mask(Mask::refusing([Refuse::Op("attention")]));
    FakeWorld::new([FakeSpec::default(), lacking]).unwrap()
}

fn placed(devices: Vec<Arc<dyn Device>>, pins: Vec<Pin>) -> Placement {
    Placement {
        devices,
        spread: Spread::One(0),
        pins,
        stream_experts_from: None,
    }
}

fn kv_on(device: usize) -> Pin {
    Pin {
        leaves: Leaves::Kind(RoleKind::Kv),
        layers: None,
        device,
        origin: "--kv-device fake:1".to_owned(),
    }
}

/// The peer aborts in the middle of a run: "pre-allocated tensor in a buffer that cannot run the operation". GGRS
/// refuses the plan and names the tensor, who put it there, the device, its kernels' reasons and the device that could.
#[test]
fn i24492_a_cache_on_a_device_without_attention_is_refused_when_planned() {
    let world = without_attention();
    let scene = attention_scene(2, 3, 32, Heads::new(4, 2, 16));
    let placement = placed(world.open_all().unwrap(), vec![kv_on(1)]);
    let error = scene.plan(&placement).unwrap_err();
    assert!(matches!(error, SchedError::Stuck { .. }), "{error}");
    says(
        &error,
        &[
            "attention",
            "kv.0.",
            "--kv-device fake:1",
            "fake:1 cannot run it",
            "(fake:0)",
        ],
    );
    // Nobody put it there: the work stands where it can be done.
    let placement = placed(placement.devices, Vec::new());
    same_as_one(&scene, &placement, "the cache unpinned");
    drop(placement);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// With no device that runs the op the message says so instead of proposing one.
#[test]
fn i24492_an_op_that_no_device_runs_is_refused_with_every_devices_reasons() {
    let lacking = || FakeSpec::default().mask(Mask::refusing([Refuse::Op("matmul")]));
    let world = FakeWorld::new([lacking(), lacking()]).unwrap();
    let scene = attention_scene(1, 3, 32, Heads::new(4, 2, 16));
    let placement = placed(world.open_all().unwrap(), Vec::new());
    let error = scene.plan(&placement).unwrap_err();
    assert!(matches!(error, SchedError::Nowhere { .. }), "{error}");
    says(
        &error,
        &[
            "matmul",
            "fake:0: no kernel takes it",
            "fake:1: no kernel takes it",
        ],
    );
}

/// A weight whose type its device cannot read: the peer falls back to the CPU in silence or asserts. GGRS takes the
/// device that can, and says that it did and why.
#[test]
fn i24492_a_weight_goes_where_its_kernel_is() {
    let lacking = FakeSpec::default().mask(Mask::refusing([Refuse::DType(DType::Q4_0)]));
    let world = FakeWorld::new([lacking, FakeSpec::default()]).unwrap();
    let heads = Heads {
        weights: DType::Q4_0,
        ..Heads::new(4, 2, 16)
    };
    let scene = attention_scene(1, 3, 32, heads);
    let placement = placed(world.open_all().unwrap(), Vec::new());
    let plan = scene.plan(&placement).unwrap();
    let notes: Vec<&String> = plan.notes.iter().map(|(_, why)| why).collect();
    assert!(
        notes
            .iter()
            .any(|n| n.contains("not on fake:0") && n.contains("Q4_0")),
        "{notes:?}"
    );
    same_as_one(&scene, &placement, "weights moved");
    // The user wants it there: then it is an error.
    let placement = placed(placement.devices, vec![pin("blk.0.attn_q.weight", 0)]);
    let error = scene.plan(&placement).unwrap_err();
    says(
        &error,
        &["blk.0.attn_q.weight", "fake:0", "Q4_0", "(fake:1)"],
    );
}

/// Target and draft share a cache, the draft is placed on another device: the peer finds out in the middle of a graph
/// reservation and aborts. GGRS refuses to bind the buffer and names both devices; left to itself it runs the draft's
/// attention where the cache is.
#[test]
fn i24492_i24366_seed_4_a_draft_on_a_device_that_cannot_read_the_cache() {
    let world = FakeWorld::uniform(2).unwrap();
    let devices = world.open_all().unwrap();
    let heads = Heads::new(4, 2, 16);
    let target = attention_scene(1, 4, 32, heads);
    let draft = at_positions(Scene::new(attention_graph(1, 1, 32, heads)), 4, 1);

    let on_first = Placement::on(Arc::clone(&devices[0]));
    let plan = target.plan(&on_first).unwrap();
    let bindings = target.bind(&on_first, &plan).unwrap();
    target
        .run(&mut runner(&on_first, &plan, &bindings).unwrap())
        .unwrap();

    let on_second = Placement::on(Arc::clone(&devices[1]));
    let plan = draft.plan(&on_second).unwrap();
    let error = runner(&on_second, &plan, &bindings)
        .err()
        .expect("the cache is not there");
    let is_foreign = matches!(
        &error,
        BindError::Device(DeviceError::ForeignBuffer { device, owner }) if device == "fake:1" && owner == "fake:0"
    );
    assert!(is_foreign, "{error}");

    // The draft's own weights on the second device, the cache where it is: queries and answers cross.
    let shared = placed(devices, vec![pin("blk.*", 1)]);
    let plan = draft.plan(&shared).unwrap();
    assert!(plan.copies.len() >= 2, "{}", plan.explain());
    let mut both = draft.bind(&shared, &plan).unwrap();
    for state in ["kv.0.k", "kv.0.v"] {
        both[0].insert(state, Arc::clone(bindings[0].get(state).unwrap()));
    }
    let answers = draft
        .run(&mut runner(&shared, &plan, &both).unwrap())
        .unwrap();

    // One device that does both.
    let one = Placement::on(cpu_members(1).remove(0));
    let plan = target.plan(&one).unwrap();
    let bindings = target.bind(&one, &plan).unwrap();
    target
        .run(&mut runner(&one, &plan, &bindings).unwrap())
        .unwrap();
    let plan = draft.plan(&one).unwrap();
    let expected = draft
        .run(&mut runner(&one, &plan, &bindings).unwrap())
        .unwrap();
    let error = distance(&answers, &expected);
    assert!(error <= 1e-10, "NMSE {error:e}");
    let alone = draft.expected();
    assert!(
        distance(&alone, &expected) > 1e-3,
        "the target's cache is read"
    );
    drop((shared, on_first, on_second));
    world.audit().unwrap();
}
