//! Large sums over members by NCCL: what they give, eager, recorded and replayed; which kernel runs and why where it
//! cannot be used; and that a member that never comes is an error. On the simulator, or on this machine's first two
//! devices if `GGRS_TEST_DEVICE` names a CUDA device.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ggrs_core::device::{Bindings, Device, Precision, Runner, WeightSource};
use ggrs_core::ops::CollectiveKind;
use ggrs_core::plan::Plan;
use ggrs_core::{Cut, DType, DeviceError, ExecError, Graph, GraphBuilder, Link, Role};
use ggrs_cuda::simt::SimtDevice;
use ggrs_cuda::simt::communicator::NoCommunicators;
use ggrs_cuda::{CudaBackend, Nccl};
use ggrs_meta::{MetaDevice, MetaOptions};
use ggrs_tests::members::{
    backend, compiler, devices, floats, link, name, planned, run_all, runners,
};
use ggrs_tests::oracle::{Array, all_reduce, matmul};
use ggrs_tests::placed::nmse;
use ggrs_tests::random::RandomInputs;

/// Elements of a sum that is large, and of no round number.
const LARGE: usize = 3 * 8192 + 5;

/// Elements of a sum that is small.
const SMALL: usize = 64;

/// The two devices belong to one test at a time: time counts in some.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `y = 2 sum(x)`, and a small sum behind it if asked for: kernels before, between and behind.
fn sums(has_small: bool) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [LARGE]).unwrap();
    b.scope("layer");
    let x = b.scale(x, 0.5, 0.0).unwrap();
    let x = b.collective(CollectiveKind::AllReduce, 2, x).unwrap();
    let y = b.scale(x, 4.0, 0.0).unwrap();
    b.output("y", y).unwrap();
    if has_small {
        let z = b.input("z", DType::F32, [SMALL]).unwrap();
        let z = b.collective(CollectiveKind::AllReduce, 2, z).unwrap();
        b.output("z", z).unwrap();
    }
    b.seal().unwrap()
}

/// Kernel and reason of the large sum.
fn route(plan: &Plan) -> (String, String) {
    let mut steps = plan.steps.iter();
    let large = steps
        .find(|s| s.route.kernel.starts_with("all_reduce"))
        .unwrap();
    (
        large.route.kernel.to_string(),
        large.route.reason.to_string(),
    )
}

/// NMSE of sums in F32, and of large ones that were BF16 on their way (twice, at most 2^-9 of a value each time).
const F32: f64 = 1e-12;
const BF16: f64 = 1e-5;

/// A run of both members over random numbers against the oracle: all members, every element.
fn check(runners: &mut [Runner], seed: u64) {
    check_within(runners, seed, F32);
}

/// The same with another bound on the large sum.
fn check_within(runners: &mut [Runner], seed: u64, large: f64) {
    let mut random = RandomInputs::new(seed);
    let has_small = runners[0].plan().inputs.len() == 2;
    let n_sums = 1 + usize::from(has_small);
    let sizes = &[("x", LARGE), ("z", SMALL)][..n_sums];
    let mut parts = [Vec::new(), Vec::new()];
    for runner in runners.iter_mut() {
        for ((name, n), parts) in sizes.iter().zip(&mut parts) {
            let bytes = random.weights(DType::F32, *n, 1.0);
            runner.set(name, &bytes).unwrap();
            let values = floats(&bytes).into_iter().map(f64::from);
            parts.push(Array::new(&[*n], values.collect()));
        }
    }
    run_all(runners);
    let outputs = [("y", 2.0, large), ("z", 1.0, F32)];
    for ((name, factor, bound), parts) in outputs.iter().zip(&parts).take(n_sums) {
        let answers: Vec<Vec<u8>> = runners.iter_mut().map(|r| r.get(name).unwrap()).collect();
        assert!(
            answers.iter().all(|a| *a == answers[0]),
            "members differ in {name}"
        );
        let expected = all_reduce(parts).swap_remove(0);
        let expected: Vec<f32> = expected.data.iter().map(|e| (factor * e) as f32).collect();
        let nmse = nmse(&floats(&answers[0]), &expected);
        assert!(nmse < *bound, "{name}: {nmse:e}");
    }
}

#[test]
fn large_sums_are_right_eager_recorded_and_replayed() {
    let Some(backend) = backend() else { return };
    let _alone = alone();
    let devices = devices(&backend, 2);
    let _links = link(&devices);
    let mut runners = runners(&devices, &sums(true), Precision::Fast);
    let (kernel, reason) = route(runners[0].plan());
    assert_eq!(kernel, "all_reduce/nccl", "{reason}");
    assert!(runners[0].plan().explain().contains("all_reduce/nccl"));
    check(&mut runners, 1);
    for runner in &mut runners {
        runner.executable().capture().unwrap();
    }
    for seed in 2..5 {
        check(&mut runners, seed);
    }
    for runner in &mut runners {
        runner.executable().release_capture();
    }
    check(&mut runners, 5);
}

/// `down up x` with hidden units cut over members: a partial product that is added up.
fn products([t, k, h]: [usize; 3]) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [t, k]).unwrap();
    let mut weight = |name, shape: [usize; 2], axis| {
        let leaf = b.weight(name, DType::F32, shape).unwrap();
        let role = Role {
            links: [Link::new("width", Cut::Width, h, axis, 1)]
                .into_iter()
                .collect(),
            ..Role::default()
        };
        b.describe(leaf, role).unwrap();
        leaf
    };
    let (up, down) = (weight("up", [h, k], 0), weight("down", [k, h], 1));
    let hidden = b.matmul(up, x).unwrap();
    let y = b.matmul(down, hidden).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}

#[test]
fn a_device_of_two_members_multiplies_a_prefill() {
    let Some(backend) = backend() else { return };
    let _alone = alone();
    let sizes @ [t, k, h] = [160, 128, 96];
    let meta = MetaDevice::new(devices(&backend, 2), MetaOptions::default()).unwrap();
    let device: Arc<dyn Device> = meta;
    let plan = planned(&device, &products(sizes), Precision::Fast);
    for member in &plan.members {
        assert_eq!(route(member).0, "all_reduce/nccl");
    }
    let mut random = RandomInputs::new(3);
    let mut array = |shape: [usize; 2]| {
        let bytes = random.weights(DType::F32, shape[0] * shape[1], 0.2);
        let values = floats(&bytes).into_iter().map(f64::from).collect();
        (bytes, Array::new(&shape, values))
    };
    let [up, down, x] = [[h, k], [k, h], [t, k]].map(&mut array);
    let mut bindings = Bindings::new();
    for slot in &plan.weights {
        let bytes = if slot.name == "up" { &up.0 } else { &down.0 };
        let source = WeightSource { bytes, owner: None };
        bindings.insert(&*slot.name, device.load_weight(slot, source).unwrap());
    }
    let mut runner = Runner::new(&*device, &plan, &bindings).unwrap();
    let expected = matmul(&down.1, &matmul(&up.1, &x.1)).data;
    let expected: Vec<f32> = expected.into_iter().map(|e| e as f32).collect();
    for is_captured in [false, true] {
        if is_captured {
            runner.executable().capture().unwrap();
        }
        for _ in 0..2 {
            runner.set("x", &x.0).unwrap();
            runner.run().unwrap();
            let answer = floats(&runner.get("y").unwrap());
            let nmse = nmse(&answer, &expected);
            assert!(nmse < 1e-4, "{nmse:e}");
        }
    }
}

#[test]
fn exact_sums_keep_the_order_of_members() {
    let Some(backend) = backend() else { return };
    let _alone = alone();
    let devices = devices(&backend, 2);
    let _links = link(&devices);
    let (kernel, reason) = route(&planned(&devices[0], &sums(true), Precision::Exact));
    assert_eq!(kernel, "all_reduce/peers staged");
    assert!(reason.starts_with("large, exact: "), "{reason}");
}

/// A library with these functions.
fn stub(folder: &Path, text: &str) {
    let source = folder.join("stub.c");
    std::fs::write(&source, text).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
    let mut cc = Command::new(compiler);
    cc.args(["-x", "c", "-shared", "-fPIC", "-o"])
        .arg(folder.join("libnccl.so.2"))
        .arg(&source);
    assert!(cc.status().unwrap().success(), "the stub does not compile");
}

#[test]
fn without_nccl_the_plan_says_why_and_runs() {
    if backend().is_none() {
        return;
    }
    let _alone = alone();
    let version = |number| format!("int ncclGetVersion(int *n) {{ *n = {number}; return 0; }}\n");
    let [empty, old, lacking] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    stub(old.path(), &version(21805));
    stub(lacking.path(), &version(22809));
    let tried = vec![empty.path().join("libnccl.so.2").display().to_string()];
    let cases = [
        (
            Nccl::in_folder(empty.path()),
            format!("it was not found (tried {})", tried[0]),
            NoCommunicators::Absent { tried },
        ),
        (
            Nccl::in_folder(old.path()),
            "it is version 2.18.5, 2.19.0 or newer is needed".to_owned(),
            NoCommunicators::TooOld {
                found: "2.18.5".to_owned(),
                oldest: "2.19.0".to_owned(),
            },
        ),
        (
            Nccl::in_folder(lacking.path()),
            "the library has no function ncclCommInitAll".to_owned(),
            NoCommunicators::Incomplete {
                function: "ncclCommInitAll",
            },
        ),
        (
            Nccl::off(),
            "GGRS_NCCL=on asks for it".to_owned(),
            NoCommunicators::Off {
                setting: "GGRS_NCCL=on",
            },
        ),
    ];
    for (nccl, shown, expected) in cases {
        let backend = backend().unwrap().with_nccl(nccl);
        let driver = backend.driver(&name(0)).unwrap();
        assert_eq!(driver.communicators(&[0, 1]).err(), Some(expected));
        let devices = devices(&backend, 2);
        let _links = link(&devices);
        let mut runners = runners(&devices, &sums(true), Precision::Fast);
        let (kernel, reason) = route(runners[0].plan());
        assert_eq!(kernel, "all_reduce/peers bf16");
        assert!(reason.ends_with(&format!("; no NCCL: {shown}")), "{reason}");
        check_within(&mut runners, 7, BF16);
    }
}

/// A device that waits so long for others.
fn hasty(backend: &CudaBackend, i: usize, patience: Duration) -> Arc<dyn Device> {
    let compiler = Arc::new(compiler());
    let (driver, features) = (backend.driver(&name(i)).unwrap(), String::new());
    let device = SimtDevice::with_patience(name(i), features, driver, compiler, patience);
    Arc::new(device.unwrap())
}

#[test]
fn a_member_that_never_comes_is_an_error_and_a_new_group_works() {
    let Some(backend) = backend() else { return };
    let _alone = alone();
    let patience = Duration::from_secs(2);
    let devices: Vec<_> = (0..2).map(|i| hasty(&backend, i, patience)).collect();
    for is_captured in [false, true] {
        let links = link(&devices);
        let mut runners = runners(&devices, &sums(false), Precision::Fast);
        assert_eq!(route(runners[0].plan()).0, "all_reduce/nccl");
        check(&mut runners, 1);
        if is_captured {
            for runner in &mut runners {
                runner.executable().capture().unwrap();
            }
            check(&mut runners, 2);
        }
        let start = Instant::now();
        let error = runners[0].run().unwrap_err();
        let took = start.elapsed();
        let ExecError::Device(DeviceError::Timeout { what, .. }) = &error else {
            unreachable!("{error}")
        };
        assert!(
            what.starts_with("another member's part of \"layer"),
            "{what}"
        );
        assert!(took >= patience && took < 10 * patience, "{took:?}");

        // The group is no more, on any member; what is planned now says so.
        for runner in &mut runners {
            let error = runner.run().unwrap_err().to_string();
            assert!(error.contains("its group was given up"), "{error}");
        }
        let (kernel, reason) = route(&planned(&devices[0], &sums(false), Precision::Fast));
        assert_eq!(kernel, "all_reduce/peers bf16");
        assert!(reason.contains("the group was given up"), "{reason}");
        drop((runners, links));
    }
    let _links = link(&devices);
    check(&mut runners(&devices, &sums(false), Precision::Fast), 3);
}
