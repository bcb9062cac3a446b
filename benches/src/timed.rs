//! One benchmark: checked once by its caller, timed by criterion, reported with its shares of the roofs.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId};

use crate::Roof;

/// Work of one iteration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written once.
    pub bytes: f64,
}

/// Times `run` under `name` and prints GB/s and GFLOP/s with their shares of the roofs.
#[allow(clippy::print_stdout, reason = "the report of a benchmark")]
pub fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    work: Work,
    roof: &Roof,
    mut run: impl FnMut(),
) {
    let (mut total, mut n_iterations) = (Duration::ZERO, 0u64);
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter_custom(|n| {
            let start = Instant::now();
            for _ in 0..n {
                run();
            }
            let elapsed = start.elapsed();
            total += elapsed;
            n_iterations += n;
            elapsed
        });
    });
    if n_iterations == 0 {
        return;
    }
    let seconds = total.as_secs_f64() / n_iterations as f64;
    let (bytes, flops) = (work.bytes / seconds, work.flops / seconds);
    println!(
        "{name:50} {:10.2} us {:8.2} GB/s ({:4.1}% of the memory roof) {:9.2} GFLOP/s ({:4.1}% of the F32 roof)",
        seconds * 1e6,
        bytes / 1e9,
        100.0 * bytes / roof.bytes_per_second,
        flops / 1e9,
        100.0 * flops / roof.flops_per_second
    );
}
