//! Sums and gathers of members that reach each other's memory: every size of message, one behind the other through the
//! same mailboxes, eager and replayed. On the simulator, or on this machine's first devices if `GGRS_TEST_DEVICE` names a
//! CUDA device.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure.

#![allow(clippy::unwrap_used, reason = "tests")]

use ggrs_core::device::{Backend as _, Precision, Runner};
use ggrs_core::ops::CollectiveKind;
use ggrs_core::{DType, Graph, GraphBuilder};
use ggrs_cuda::Nccl;
use ggrs_tests::members::{backend, devices, floats, link, run_all, runners};
use ggrs_tests::oracle::{Array, all_gather, all_reduce};
use ggrs_tests::placed::nmse;
use ggrs_tests::random::RandomInputs;

/// Elements of a sum: small ones, one of every thread's messages more or less, several pieces, no round numbers.
const SIZES: [usize; 6] = [1, 8192, 16_385, 65_536, 100_003, 1 << 20];

/// Elements of a member's part of a gather.
const PART: usize = 5000;

/// `sum(x)`; `gather(z)`; `sum` of all elements of that sum but the first, which lie at no round address; `gather` of
/// what was gathered: each goes through the mailboxes right behind the other.
fn exchanges(n_members: usize, n: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [n + 1]).unwrap();
    let z = b.input("z", DType::F32, [PART]).unwrap();
    let sum = b
        .collective(CollectiveKind::AllReduce, n_members, x)
        .unwrap();
    let gather = CollectiveKind::AllGather { axis: 0 };
    let joined = b.collective(gather, n_members, z).unwrap();
    let rest = b.slice(sum, 0, 1, n).unwrap();
    let again = b
        .collective(CollectiveKind::AllReduce, n_members, rest)
        .unwrap();
    let twice = b.collective(gather, n_members, joined).unwrap();
    for (name, value) in [("sum", sum), ("again", again), ("twice", twice)] {
        b.output(name, value).unwrap();
    }
    b.seal().unwrap()
}

/// A run over random numbers against the oracle: every element, the same on all members.
fn check(runners: &mut [Runner], n: usize, bound: f64, seed: u64) {
    let mut random = RandomInputs::new(seed);
    let (mut xs, mut zs) = (Vec::new(), Vec::new());
    for runner in runners.iter_mut() {
        for (name, n, parts) in [("x", n + 1, &mut xs), ("z", PART, &mut zs)] {
            let bytes = random.weights(DType::F32, n, 1.0);
            runner.set(name, &bytes).unwrap();
            let values = floats(&bytes).into_iter().map(f64::from).collect();
            parts.push(Array::new(&[n], values));
        }
    }
    run_all(runners);
    let n_members = runners.len();
    let sum = all_reduce(&xs).swap_remove(0);
    let again = sum.data[1..].iter().map(|v| v * n_members as f64).collect();
    let joined = all_gather(&zs, 0);
    let twice = all_gather(&joined, 0).swap_remove(0);
    let all = [
        ("sum", sum.data, bound),
        ("again", again, 2.0 * bound),
        ("twice", twice.data, 0.0),
    ];
    for (name, expected, bound) in all {
        let answers: Vec<_> = runners.iter_mut().map(|r| r.get(name).unwrap()).collect();
        let is_same = answers.iter().all(|a| *a == answers[0]);
        assert!(is_same, "members differ in {name}");
        let expected: Vec<f32> = expected.into_iter().map(|e| e as f32).collect();
        let nmse = nmse(&floats(&answers[0]), &expected);
        assert!(nmse <= bound, "{name} of {n}: {nmse:e}");
    }
}

#[test]
fn sums_and_gathers_of_every_size_are_right_eager_and_replayed() {
    let Some(backend) = backend() else { return };
    let backend = backend.with_nccl(Nccl::off());
    let mut seed = 0;
    for n_members in 2..=backend.enumerate().unwrap().len().min(4) {
        let devices = devices(&backend, n_members);
        let _links = link(&devices);
        for (precision, bound) in [(Precision::Exact, 1e-12), (Precision::Fast, 1e-5)] {
            for n in SIZES {
                let graph = exchanges(n_members, n);
                let mut runners = runners(&devices, &graph, precision);
                for replayed in [false, true] {
                    for runner in runners.iter_mut().filter(|_| replayed) {
                        runner.executable().capture().unwrap();
                    }
                    for _ in 0..2 {
                        seed += 1;
                        check(&mut runners, n, bound, seed);
                    }
                }
            }
        }
    }
}
