//! One benchmark: prepared and checked only if it is chosen, timed by criterion, reported with its shares of the roofs.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId};

use crate::{Prepared, Roof};

/// Work of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written once.
    pub bytes: f64,
}

/// Times runs of what `prepare` makes and prints GB/s and GFLOP/s with their shares of the roofs.
///
/// # Panics
/// If a run fails: a benchmark of what does not work is no benchmark.
#[allow(
    clippy::print_stdout,
    clippy::panic,
    reason = "the report of a benchmark, and its end"
)]
pub fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    roof: &Roof,
    prepare: impl Fn() -> Prepared,
) {
    let mut prepared = None;
    let (mut total, mut n_runs) = (Duration::ZERO, 0u64);
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        let prepared = prepared.get_or_insert_with(&prepare);
        b.iter_custom(|n| {
            let start = Instant::now();
            for _ in 0..n {
                if let Err(error) = prepared.runner.run() {
                    panic!("{name}: {error}");
                }
            }
            let elapsed = start.elapsed();
            total += elapsed;
            n_runs += n;
            elapsed
        });
    });
    let Some(prepared) = prepared.filter(|_| n_runs > 0) else {
        return;
    };
    let seconds = total.as_secs_f64() / n_runs as f64;
    let (bytes, flops) = (prepared.work.bytes / seconds, prepared.work.flops / seconds);
    // Quantised weights are multiplied in 8-bit integers.
    let (unit, peak) = if prepared.quantised {
        ("int8", roof.int8_per_second)
    } else {
        ("F32", roof.f32_per_second)
    };
    println!(
        "{name:44} {:10.2} us {:7.2} GB/s = {:3.0}% of the memory roof {:8.2} GFLOP/s = {:4.1}% of the {unit} roof  {}",
        seconds * 1e6,
        bytes / 1e9,
        100.0 * bytes / roof.bytes_per_second,
        flops / 1e9,
        100.0 * flops / peak,
        prepared.kernel
    );
}
