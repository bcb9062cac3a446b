//! The roofs of this machine, measured in the same run as what is compared with them.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use ggrs_cpu::isa::Isa;
use ggrs_cpu::math;

/// What the machine can do with all its threads.
#[derive(Clone, Copy, Debug)]
pub struct Roof {
    /// Bytes read per second from memory larger than the caches.
    pub bytes_per_second: f64,
    /// F32 operations per second of independent multiply-adds in registers.
    pub f32_per_second: f64,
    /// 8-bit operations per second of independent dot products in registers; that of F32 without VNNI.
    pub int8_per_second: f64,
}

/// Values read by one thread in one pass; far larger than any cache.
const VALUES_PER_THREAD: usize = 64 << 20;
/// Rounds of one pass over the chains in registers.
const ROUNDS: usize = 1 << 23;

impl Roof {
    /// Measures the roofs: the best of three passes each.
    pub fn measure(n_threads: usize) -> Self {
        let isa = Isa::preferred();
        // Not zeros, which the system would hand out only when they are read.
        let buffers: Vec<Vec<f32>> = vec![vec![1.0; VALUES_PER_THREAD]; n_threads];
        let read = |i: usize| {
            black_box(buffers.get(i).map(|b| math::max(isa, b)));
            4.0 * VALUES_PER_THREAD as f64
        };
        let f32_per_second = best(n_threads, &|_| chains(Unit::F32));
        Self {
            bytes_per_second: best(n_threads, &read),
            f32_per_second,
            int8_per_second: f32_per_second.max(best(n_threads, &|_| chains(Unit::Int8))),
        }
    }
}

/// Work per second of all threads together, the best of three passes.
fn best(n_threads: usize, work: &(dyn Fn(usize) -> f64 + Sync)) -> f64 {
    let pass = |_| {
        let start = Instant::now();
        let done: f64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads)
                .map(|i| scope.spawn(move || work(i)))
                .collect();
            threads.into_iter().filter_map(|t| t.join().ok()).sum()
        });
        done / start.elapsed().as_secs_f64()
    };
    (0..3).map(pass).fold(0.0, f64::max)
}

/// What is computed in registers.
#[derive(Clone, Copy)]
enum Unit {
    F32,
    Int8,
}

/// Runs independent chains in registers and says how many operations that was; 0 where the machine lacks the unit.
#[cfg(target_arch = "x86_64")]
fn chains(unit: Unit) -> f64 {
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::{
        __m256, __m512, __m512i, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps,
    };

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn int8() -> f64 {
        let (a, mut lanes): (__m512i, [__m512i; 12]) =
            (_mm512_set1_epi32(black_box(3)), [_mm512_set1_epi32(1); 12]);
        for _ in 0..ROUNDS {
            for lane in &mut lanes {
                *lane = _mm512_dpbusd_epi32(*lane, a, a);
            }
        }
        black_box(lanes);
        (ROUNDS * 12 * 64 * 2) as f64
    }

    #[target_feature(enable = "avx512f")]
    fn f32_wide() -> f64 {
        let (a, mut lanes): (__m512, [__m512; 12]) =
            (_mm512_set1_ps(black_box(0.5)), [_mm512_set1_ps(1.0); 12]);
        for _ in 0..ROUNDS {
            for lane in &mut lanes {
                *lane = _mm512_fmadd_ps(*lane, a, a);
            }
        }
        black_box(lanes);
        (ROUNDS * 12 * 16 * 2) as f64
    }

    #[target_feature(enable = "avx2,fma")]
    fn f32_narrow() -> f64 {
        let (a, mut lanes): (__m256, [__m256; 12]) =
            (_mm256_set1_ps(black_box(0.5)), [_mm256_set1_ps(1.0); 12]);
        for _ in 0..ROUNDS {
            for lane in &mut lanes {
                *lane = _mm256_fmadd_ps(*lane, a, a);
            }
        }
        black_box(lanes);
        (ROUNDS * 12 * 8 * 2) as f64
    }

    match unit {
        // SAFETY: the machine has the features that each function enables.
        Unit::Int8 if has!("avx512vnni") && has!("avx512f") => unsafe { int8() },
        // SAFETY: as above.
        Unit::F32 if has!("avx512f") => unsafe { f32_wide() },
        // SAFETY: as above.
        Unit::F32 if has!("avx2") && has!("fma") => unsafe { f32_narrow() },
        _ => 0.0,
    }
}

/// Other processors: no roof is measured, and shares read as infinite.
#[cfg(not(target_arch = "x86_64"))]
fn chains(_: Unit) -> f64 {
    0.0
}
