//! Kernels by op and format, at the sizes of Qwen3-30B-A3B: checked against the oracle, then timed.
//!
//! Names are `op/format/shape`. Weights of decode cases are larger than the caches, so that memory is what is measured.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ggrs_benches::problems::{Attend, Experts, Linear, Norm, Route};
use ggrs_benches::{Roof, bench, prepare};
use ggrs_core::DType;
use ggrs_core::device::{Backend, DeviceName};
use ggrs_cpu::CpuBackend;
use ggrs_tests::problem::Problem;

type Case = (String, Box<dyn Problem>, Box<dyn Problem>);

fn case(name: String, small: impl Problem + 'static, large: impl Problem + 'static) -> Case {
    (name, Box::new(small), Box::new(large))
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let formats = DType::ALL
        .into_iter()
        .filter(|d| d.is_float() || d.is_block());
    for dtype in formats {
        let format = dtype.name().to_lowercase();
        for (m, n) in [(49_152, 1), (4096, 512)] {
            let small = Linear {
                dtype,
                m: 96,
                k: 512,
                n: n.min(40),
            };
            let large = Linear {
                dtype,
                m,
                k: 2048,
                n,
            };
            all.push(case(format!("matmul/{format}/{m}x2048,n{n}"), small, large));
        }
    }
    for dtype in [DType::Q4_K, DType::Q6_K, DType::Q8_0] {
        let format = dtype.name().to_lowercase();
        for (n, gated) in [(1, true), (1, false), (512, true), (512, false)] {
            let op = if gated { "matmul_id_glu" } else { "matmul_id" };
            let small = Experts {
                dtype,
                n_experts: 8,
                n_used: 2,
                m: 64,
                k: 256,
                n: n.min(40),
                gated,
            };
            let large = Experts {
                dtype,
                n_experts: 64,
                n_used: 8,
                m: 768,
                k: 2048,
                n,
                gated,
            };
            all.push(case(
                format!("{op}/{format}/e64x8,768x2048,n{n}"),
                small,
                large,
            ));
        }
    }
    for dtype in [DType::F32, DType::F16, DType::Q8_0] {
        let format = dtype.name().to_lowercase();
        for (n, kv) in [(1, 4096), (512, 2048)] {
            let attend = |n, kv| Attend {
                dtype,
                n,
                kv,
                n_heads: 32,
                n_kv_heads: 4,
                width: 128,
            };
            let name = format!("attention/{format}/h32x4,d128,n{n},kv{kv}");
            all.push(case(name, attend(n.min(9), 100), attend(n, kv)));
        }
    }
    for n in [1, 512] {
        let norm = |n| Norm { n, width: 2048 };
        all.push(case(
            format!("rms_norm/f32/n{n}x2048"),
            norm(n.min(5)),
            norm(n),
        ));
        let route = |n| Route {
            n,
            n_experts: 128,
            n_used: 8,
        };
        all.push(case(
            format!("route_experts/f32/n{n},e128x8"),
            route(n.min(5)),
            route(n),
        ));
    }
    all
}

#[allow(clippy::print_stdout, reason = "the report of a benchmark")]
fn report(roof: &Roof) {
    println!(
        "roofs: {:.1} GB/s, {:.0} GFLOP/s F32, {:.0} GOP/s int8",
        roof.bytes_per_second / 1e9,
        roof.f32_per_second / 1e9,
        roof.int8_per_second / 1e9
    );
}

fn ops(c: &mut Criterion) {
    let name: DeviceName = "cpu".parse().expect("a device name");
    let device = CpuBackend::from_env()
        .and_then(|b| b.open(&name))
        .expect("the CPU is always there");
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let roof = Roof::measure(n_threads);
    report(&roof);
    let mut group = c.benchmark_group("ops");
    for (name, small, large) in cases() {
        bench(&mut group, &name, &roof, || {
            prepare(&*device, &*small, &*large).expect("the problem is right")
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = ops
}
criterion_main!(benches);
