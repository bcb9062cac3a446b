//! Runs: the same numbers as a naive product for every ratio, eager and captured.

use std::sync::Arc;

use ggrs_core::device::{CaptureState, Device, Precision, Runner};
use ggrs_core::{DType, ExecError};
use ggrs_meta::MetaDevice;

use crate::mlp::{
    K, RATIOS, T, assert_close, bound, cpu, expected, members, meta, mlp, numbers, options,
    planned, to_bytes,
};

#[test]
fn every_split_computes_what_a_naive_product_does() {
    let x = numbers(T * K, 7);
    for ratios in RATIOS {
        let device = meta(ratios);
        let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
        assert_eq!(plan.members.len(), ratios.len());
        let mut runner = Runner::new(&*device, &plan, &bound(&*device, &plan)).unwrap();
        let expected = expected(&plan, &x);
        runner.set("x", &to_bytes(&x)).unwrap();
        let mut eager = None;
        for round in ["eager", "recorded", "replayed"] {
            runner.run().unwrap();
            let got = ["y", "logits", "stored"].map(|name| runner.get(name).unwrap());
            for ((got, expected), name) in got.iter().zip(&expected).zip(["y", "logits", "stored"])
            {
                assert_close(got, expected, &format!("{name} {round} at {ratios:?}"));
            }
            assert_eq!(
                eager.get_or_insert_with(|| got.clone()),
                &got,
                "{round} at {ratios:?}"
            );
            if round == "eager" {
                runner.executable().capture().unwrap();
                assert_eq!(runner.executable().capture_state(), CaptureState::Armed);
                let again = runner.executable().capture();
                assert!(matches!(again, Err(ExecError::Capture { .. })), "{again:?}");
            } else {
                assert_eq!(runner.executable().capture_state(), CaptureState::Captured);
            }
        }
        runner.executable().release_capture();
        assert_eq!(runner.executable().capture_state(), CaptureState::Eager);
    }
}

#[test]
fn the_same_device_twice_is_two_members() {
    let one = cpu("cpu");
    let device = MetaDevice::new(vec![Arc::clone(&one), one], options(&[1.0, 1.0])).unwrap();
    let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
    let mut runner = Runner::new(&*device, &plan, &bound(&*device, &plan)).unwrap();
    let x = numbers(T * K, 9);
    runner.set("x", &to_bytes(&x)).unwrap();
    runner.run().unwrap();
    assert_close(&runner.get("y").unwrap(), &expected(&plan, &x)[0], "y");
}

#[test]
fn facts_are_the_members_together() {
    let device = meta(&[1.0, 1.0]);
    assert_eq!(device.info().name.to_string(), "cpu:0/2+cpu:1/2");
    let parts = device.member_memory();
    assert_eq!(
        device.memory().total,
        parts.iter().map(|m| m.total).sum::<u64>()
    );
    assert_eq!(device.limits().alignment_bytes, 64);
    let none = MetaDevice::new(Vec::new(), options(&[]));
    assert!(
        none.err()
            .unwrap()
            .to_string()
            .contains("one device or more")
    );
    let nested = MetaDevice::new(vec![device, cpu("cpu")], options(&[]));
    assert!(
        nested
            .err()
            .unwrap()
            .to_string()
            .contains("cpu:0/2+cpu:1/2")
    );
}

#[test]
fn one_run_is_the_same_as_the_last() {
    let x = numbers(T * K, 3);
    let device = MetaDevice::new(members(3), options(&[2.0, 1.0, 1.0])).unwrap();
    let plan = planned(&*device, &mlp(DType::Q8_0), Precision::Fast);
    let mut runner = Runner::new(&*device, &plan, &bound(&*device, &plan)).unwrap();
    runner.set("x", &to_bytes(&x)).unwrap();
    runner.run().unwrap();
    let first = runner.get("logits").unwrap();
    for _ in 0..200 {
        runner.run().unwrap();
    }
    assert_eq!(runner.get("logits").unwrap(), first);
}
