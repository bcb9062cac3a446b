//! The roofs of this machine, measured in the same run as what is compared with them.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// What the machine can do with all its threads.
#[derive(Clone, Copy, Debug)]
pub struct Roof {
    /// Bytes read per second from memory larger than the caches.
    pub bytes_per_second: f64,
    /// F32 operations per second of independent multiply-adds in registers.
    pub flops_per_second: f64,
}

/// Memory read by one thread in one pass; far larger than any cache.
const BYTES_PER_THREAD: usize = 256 << 20;
/// Multiply-adds of one pass and lane.
const STEPS: usize = 1 << 22;
/// Independent chains, enough to hide the latency of a multiply-add.
const LANES: usize = 128;

impl Roof {
    /// Measures both roofs: the best of three passes each.
    pub fn measure(n_threads: usize) -> Self {
        let best = |work: &(dyn Fn() -> f64 + Sync)| (0..3).map(|_| work()).fold(0.0, f64::max);
        let bytes_per_second = best(&|| {
            let buffers: Vec<Vec<u64>> = (0..n_threads)
                .map(|i| vec![i as u64; BYTES_PER_THREAD / 8])
                .collect();
            let start = Instant::now();
            thread::scope(|scope| {
                for buffer in &buffers {
                    scope.spawn(move || black_box(buffer.iter().fold(0u64, |sum, x| sum ^ x)));
                }
            });
            (n_threads * BYTES_PER_THREAD) as f64 / start.elapsed().as_secs_f64()
        });
        let flops_per_second = best(&|| {
            let start = Instant::now();
            thread::scope(|scope| {
                for _ in 0..n_threads {
                    scope.spawn(|| {
                        let mut lanes = [black_box(1.0f32); LANES];
                        let (a, b) = (black_box(0.999f32), black_box(0.001f32));
                        for _ in 0..STEPS {
                            for lane in &mut lanes {
                                *lane = lane.mul_add(a, b);
                            }
                        }
                        black_box(lanes);
                    });
                }
            });
            (2 * n_threads * STEPS * LANES) as f64 / start.elapsed().as_secs_f64()
        });
        Self {
            bytes_per_second,
            flops_per_second,
        }
    }
}
