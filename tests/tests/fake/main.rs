//! The fake devices themselves: they compute as the CPU does, refuse what they are told to, fail when they are told to,
//! and find every wrong use that they promise to find.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod audit;
mod faults;
mod limits;
mod masks;
mod scene;

use std::sync::Arc;

use ggrs_core::device::{Backend, Device, Precision, Registry};
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DType, DeviceError};
use ggrs_cpu::CpuBackend;
use ggrs_meta::{MetaDevice, MetaOptions};
use ggrs_sched::Placement;
use ggrs_tests::conformance::{Target, check_stem};
use ggrs_tests::fake::{FakeSpec, FakeWorld, Finding, Mask, Refuse};
use ggrs_tests::placed::{self, cpu_members, cpu_members_of};

use crate::scene::{chain, expected, planned, session};

#[test]
fn devices_open_by_name_and_plans_name_them() {
    let world = FakeWorld::uniform(2).unwrap();
    let cpu = Box::new(CpuBackend::default()) as Box<dyn Backend>;
    let registry = Registry::with([Box::new(world.clone()), cpu]);
    let names: Vec<String> = registry
        .enumerate()
        .unwrap()
        .iter()
        .map(|info| info.name.to_string())
        .collect();
    assert_eq!(names, ["fake:0", "fake:1", "cpu:0"]);
    let device = registry.open("fake:1").unwrap();
    assert_eq!(session(&*device).unwrap(), expected());
    let text = planned(&chain(), &*device).explain();
    assert!(
        text.starts_with("precision fast, devices fake:1\n"),
        "{text}"
    );
    assert!(text.contains("matmul matmul on fake:1: "), "{text}");
    for name in ["fake:2", "fake:0/2"] {
        let error = registry.open(name).err().unwrap();
        let available = vec!["fake:0".to_owned(), "fake:1".to_owned()];
        let name = name.to_owned();
        assert_eq!(error, DeviceError::NotFound { name, available });
    }
    assert_eq!(world.audit(), Ok(()));
    let again = registry.open("fake:1").unwrap();
    let device = "fake:1".to_owned();
    assert_eq!(world.take_findings(), [Finding::DoubleOpen { device }]);
    drop(again);
    assert_eq!(world.audit(), Ok(()));
}

#[test]
fn equal_worlds_give_equal_plans() {
    let specs = || {
        let mask = Mask::default().with_fast("fast_scale", "scale", Refuse::Strided);
        [FakeSpec::default().alignment(256).mask(mask)]
    };
    let plans = [0, 1].map(|_| {
        let device = FakeWorld::new(specs()).unwrap().open(0).unwrap();
        plan(&chain(), &*device, &PlanOptions::default()).unwrap()
    });
    assert_eq!(plans[0], plans[1]);
    assert_eq!(plans[0].explain(), plans[1].explain());
    let offsets = plans[0].places.iter().map(|place| place.offset);
    assert!(offsets.into_iter().all(|offset| offset % 256 == 0));
}

#[test]
fn a_fake_device_computes_what_its_ops_say() {
    let specs = [
        FakeSpec::default(),
        FakeSpec::default().alignment(256).mask(
            Mask::default()
                .with_fast(
                    "fast_attention",
                    "attention",
                    Refuse::KvCellsNotMultipleOf(2),
                )
                .with_fast("fast_matmul", "matmul", Refuse::Strided),
        ),
    ];
    let world = FakeWorld::new(specs).unwrap();
    let target = Target {
        name: "fake".to_owned(),
        devices: world.open_all().unwrap(),
    };
    for stem in [
        "matmul",
        "matmul_id",
        "attention",
        "cache_write",
        "store",
        "rms_norm",
        "softmax",
        "slice",
        "concat",
        "top_k",
        "cast",
        "get_rows",
    ] {
        check_stem(stem, &target, &[]);
        world
            .audit()
            .unwrap_or_else(|error| panic!("{stem}: {error}"));
    }
    world.assert_no_leaks();
}

#[test]
fn the_real_cpu_opens_as_members() {
    let names = |n, threads| -> Vec<(String, String)> {
        let devices = cpu_members_of(n, threads).unwrap();
        let infos = devices.iter().map(|d| d.info());
        infos.map(|i| (i.name.to_string(), i.features)).collect()
    };
    let three = names(3, 4);
    assert_eq!(
        three.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
        ["cpu:0/3", "cpu:1/3", "cpu:2/3"]
    );
    let threads = three
        .iter()
        .map(|(_, features)| features.rsplit(", ").next().unwrap());
    assert_eq!(
        threads.collect::<Vec<_>>(),
        ["2 threads", "1 thread", "1 thread"]
    );
    for device in cpu_members_of(2, 2).unwrap() {
        assert_eq!(session(&*device).unwrap(), expected());
    }
}

/// What the scheduler and the device made of several do with their devices is right by the audit's book.
#[test]
fn models_over_fake_devices_pass_the_audit() {
    const PROMPT: [u32; 9] = [3, 141, 59, 26, 53, 58, 97, 93, 23];
    let run = |placement: Placement| {
        let model = placed::load("qwen3moe/small-f32.gguf", placement, Precision::Exact);
        let mut session = placed::open(&model, 128, DType::F16);
        placed::run(&mut session, &PROMPT, 6)
    };
    let one = cpu_members(1).remove(0);
    let (expected, tokens) = run(one.into());
    let unlike = [64, 256, 128].map(|alignment| FakeSpec::default().alignment(alignment));
    for name in ["one", "layers", "members"] {
        let world = FakeWorld::new(unlike.clone()).unwrap();
        let devices = world.open_all().unwrap();
        let placement = match name {
            "one" => devices[1].clone().into(),
            "layers" => placed::by_layer(devices),
            _ => (MetaDevice::new(devices, MetaOptions::default()).unwrap() as Arc<dyn Device>)
                .into(),
        };
        let (logits, got) = run(placement);
        world
            .audit()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        world.assert_no_leaks();
        let error = placed::nmse(&logits, &expected);
        assert!(error < 1e-6, "{name}: NMSE {error:e}");
        assert_eq!(got, tokens, "{name}");
    }
}
