//! Memory that is not there, or not in one piece: errors with names, and nothing is left behind.

use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{Device, Precision};
use ggrs_core::{DType, DeviceError};
use ggrs_model::{LoadOptions, Model, ModelError, Session, SessionError, SessionOptions};
use ggrs_sched::Placement;
use ggrs_tests::fake::{FakeSpec, FakeWorld, Fault, FaultKind, Point};
use ggrs_tests::fixtures::fixture_path;
use ggrs_tests::placed::{by_layer, cpu_members, load, nmse, open, run};

use crate::joined::split_over;
use crate::placed_graph::{same_as_one, same_as_one_when_split, says};
use crate::small_graphs::{Heads, attention_scene};

const MODEL: &str = "qwen3moe/small-f32.gguf";
const PROMPT: [u32; 5] = [3, 141, 59, 26, 53];

fn try_load(placement: Placement) -> Result<Arc<Model>, ModelError> {
    let options = LoadOptions {
        precision: Precision::Exact,
        ..LoadOptions::default()
    };
    Model::load(fixture_path(MODEL), placement, options, &mut |_, _| {})
}

fn options() -> SessionOptions {
    SessionOptions {
        n_ctx: Some(128),
        n_batch: 64,
        kv_dtype: DType::F32,
        ..SessionOptions::default()
    }
}

/// A tensor beyond the largest single buffer made the peer's device crash. GGRS names weight, device and both sizes.
#[test]
fn i22197_a_weight_beyond_the_largest_buffer_is_named() {
    let small = FakeSpec::default().max_buffer(40_000);
    let world = FakeWorld::new([FakeSpec::default(), small]).unwrap();
    let error = try_load(by_layer(world.open_all().unwrap()))
        .err()
        .expect("too big");
    let ModelError::Weight { tensor, source } = &error else {
        panic!("{error}")
    };
    assert!(
        matches!(source, DeviceError::BufferTooBig { max: 40_000, .. }),
        "{source}"
    );
    says(&error, &[tensor, "fake:1", "40000"]);
    world.assert_no_leaks();
}

/// A cache beyond the largest single buffer, as with a long context: named with what it was for and a way out.
#[test]
fn i22197_a_cache_beyond_the_largest_buffer_is_named() {
    let world = FakeWorld::new([FakeSpec::default().max_buffer(1 << 20)]).unwrap();
    let model = try_load(Placement::on(world.open(0).unwrap())).unwrap();
    let long = SessionOptions {
        n_ctx: Some(100_000),
        ..options()
    };
    let error = Session::new(&model, &long).err().expect("too long");
    assert!(
        matches!(error, SessionError::Context { n_ctx: 100_000, .. }),
        "{error}"
    );
    says(
        &error,
        &[
            "100000 tokens",
            "shorter context",
            "fake:0",
            "1048576",
            "kv.0.k",
        ],
    );
    let mut session = Session::new(&model, &options()).unwrap();
    run(&mut session, &PROMPT, 1);
    drop((session, model));
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// A failed allocation on one device is an assert in the peer. In GGRS it is an error with the weight's name wherever
/// it happens, all memory is free again, and the next load works.
#[test]
fn i22197_e_an_allocation_that_fails_on_one_device() {
    let one = load(MODEL, cpu_members(1).remove(0), Precision::Exact);
    let (expected, _) = run(&mut open(&one, 128, DType::F32), &PROMPT, 2);
    for (what, place) in [
        ("layers", by_layer as fn(Vec<Arc<dyn Device>>) -> Placement),
        ("tensors", |members| split_over(members, &[])),
    ] {
        println!("{what} over two devices");
        allocations_fail(place, &expected);
    }
}

fn allocations_fail(place: fn(Vec<Arc<dyn Device>>) -> Placement, expected: &[f32]) {
    let world = FakeWorld::uniform(2).unwrap();
    let rehearsal = |world: &FakeWorld| -> Result<Vec<f32>, Box<dyn Error>> {
        let model = try_load(place(world.open_all()?))?;
        let mut session = Session::new(&model, &options())?;
        let mut logits = session.feed(&PROMPT, ggrs_model::Logits::All)?;
        logits.extend(session.feed(&[7], ggrs_model::Logits::Last)?);
        Ok(logits)
    };
    rehearsal(&world).unwrap();
    let counts = [Point::LoadWeight, Point::Alloc].map(|p| (p, world.tally(1, p).events));
    for (point, n) in counts {
        assert!(n > 2, "{point}: {n}");
        for nth in [0, 1, n / 2, n - 1] {
            world.restart_counts();
            world.inject(Fault {
                device: Some(1),
                point,
                nth,
                kind: FaultKind::OutOfMemory,
            });
            let error = rehearsal(&world).expect_err("an allocation failed");
            let is_typed = error.is::<ModelError>() || error.is::<SessionError>();
            assert!(is_typed, "{point} {nth}: {error}");
            says(&*error, &["fake:1", "out of memory"]);
            world.assert_no_leaks();
        }
    }
    let model = try_load(place(world.open_all().unwrap())).unwrap();
    let (logits, _) = run(&mut open(&model, 128, DType::F32), &PROMPT, 2);
    let error = nmse(&logits, expected);
    assert!(error <= 1e-10, "NMSE {error:e}");
    drop(model);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// Devices that differ in alignment, largest buffer and memory: the peer asserts that they are alike. Each part of a
/// GGRS plan keeps to its own device's limits.
#[test]
fn i25594_unlike_devices_in_layers() {
    let specs = [
        FakeSpec::default().alignment(64),
        FakeSpec::default()
            .alignment(4096)
            .max_buffer(1 << 20)
            .memory(2 << 20),
        FakeSpec::default().alignment(256),
    ];
    let world = FakeWorld::new(specs).unwrap();
    let placement = by_layer(world.open_all().unwrap());
    let scene = attention_scene(3, 3, 32, Heads::new(4, 2, 16));
    same_as_one(&scene, &placement, "unlike devices");
    drop(placement);
    world.audit().unwrap();
    world.assert_no_leaks();
    // Too little memory on one of them: that one is named.
    let poor = [FakeSpec::default(), FakeSpec::default().memory(10_000)];
    let world = FakeWorld::new(poor).unwrap();
    let placement = by_layer(world.open_all().unwrap());
    let error = scene.answer(&placement).unwrap_err();
    says(&*error, &["fake:1", "memory"]);
    drop(placement);
    world.assert_no_leaks();
}

/// Weights and caches too large for one device's largest buffer: split over members, their parts fit.
#[test]
fn i22197_parts_fit_where_the_whole_does_not() {
    let scene = attention_scene(1, 2, 32, Heads::new(16, 16, 16));
    // The bytes of half a state: cells, heads, width.
    let half = 64 * 16 * 16 * 4 / 2;
    let narrow = || FakeSpec::default().max_buffer(half);
    let world = FakeWorld::new([narrow(), narrow()]).unwrap();
    let devices = world.open_all().unwrap();
    let error = scene
        .answer(&Placement::on(Arc::clone(&devices[0])))
        .unwrap_err();
    says(&*error, &["fake:0", "the largest possible is 32768"]);
    same_as_one_when_split(&scene, &split_over(devices, &[]), "halves");
    world.audit().unwrap();
    world.assert_no_leaks();
}
