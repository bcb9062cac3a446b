//! Kernels by op and format, at the sizes of Qwen3-30B-A3B: checked against the oracle, then timed.
//!
//! Names are `op/format/shape`. Weights of decode cases are larger than the caches, so that memory is what is measured.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ggrs_benches::{Case, Roof, bench, prepare};
use ggrs_core::DType;
use ggrs_core::device::{Backend, DeviceName};
use ggrs_cpu::CpuBackend;

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let formats = DType::ALL.into_iter();
    for dtype in formats.filter(|d| d.is_float() || d.is_block()) {
        all.push(Case::linear(dtype, 49_152, 2048, 1));
        all.push(Case::linear(dtype, 4096, 2048, 512));
    }
    for dtype in [DType::Q4_K, DType::Q6_K, DType::Q8_0] {
        for (n, gated) in [(1, true), (1, false), (512, true), (512, false)] {
            all.push(Case::experts(dtype, 64, (768, 2048, n), gated));
        }
    }
    for dtype in [DType::F32, DType::F16, DType::Q8_0] {
        all.push(Case::attention(dtype, 1, 4096));
        all.push(Case::attention(dtype, 512, 2048));
    }
    for n in [1, 512] {
        all.extend([Case::norm(n), Case::route(n)]);
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
    for Case { name, small, large } in cases() {
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
