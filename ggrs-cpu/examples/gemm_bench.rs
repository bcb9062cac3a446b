//! Measures the matrix products beside the machine's roofs: GB/s of weights for one column, GOP/s for 512 columns.
//!
//! `cargo run --release -p ggrs-cpu --example gemm_bench [dtype ...]`; `GGRS_CPU_ISA` chooses the level.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program that prints measurements"
)]

use std::time::Instant;

use ggrs_core::DType;
use ggrs_cpu::gemm::{Columns, Inputs, Output, matmul};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::pack::{
    ActivationGroup, PackedMatrix, QuantizedRows, packed_bytes, quantize_activations, tile_count,
};

/// Elements in a row of weights.
const K: usize = 2048;
/// Bytes of weights that one column is multiplied by: more than the caches hold.
const DECODE_BYTES: usize = 256 << 20;
/// The same for weights that the second-level cache holds: what the kernel could do with faster memory.
const CACHED_BYTES: usize = 512 << 10;
/// Rows and columns of the product that measures operations.
const PREFILL: (usize, usize) = (2048, 512);

/// The best of some runs, in seconds.
fn best_of(runs: usize, mut work: impl FnMut()) -> f64 {
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Runs `work(part)` for every part, each on its own thread.
fn on_threads(n: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for part in 1..n {
            let work = &work;
            scope.spawn(move || work(part));
        }
        work(0);
    });
}

/// Seconds for one product whose pairs of tiles are split evenly.
fn product(
    isa: Isa,
    n_threads: usize,
    weights: &PackedMatrix<'_>,
    inputs: &Inputs<'_>,
    n: usize,
    out: &mut [f32],
) -> f64 {
    let width = weights.n_rows();
    let pairs = weights.n_tiles() / 2;
    best_of(
        (1 << 28 >> weights.bytes().len().ilog2()).clamp(3, 500),
        || {
            let whole = Output::new(out, n, width, width).expect("the output fits");
            on_threads(n_threads, |part| {
                // SAFETY: the parts' tiles are disjoint.
                let mut output = unsafe { whole.share() };
                let tiles = 2 * (pairs * part / n_threads)..2 * (pairs * (part + 1) / n_threads);
                matmul(
                    isa,
                    weights,
                    tiles,
                    inputs,
                    Columns::Dense { start: 0, n },
                    &mut output,
                )
                .expect("a product");
            });
        },
    )
}

/// GB/s of reading memory that no cache holds.
fn read_roof(n_threads: usize, bytes: &[u8]) -> f64 {
    let seconds = best_of(5, || {
        on_threads(n_threads, |part| {
            let n = bytes.len() / n_threads;
            let sums =
                bytes[part * n..][..n]
                    .chunks_exact(256)
                    .fold([0_u64; 32], |mut sums, line| {
                        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
                        }
                        sums
                    });
            std::hint::black_box(sums);
        });
    });
    bytes.len() as f64 / seconds / 1e9
}

/// GOP/s of `vpdpbusd` on registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot_roof() -> f64 {
    use std::arch::x86_64::*;
    const STEPS: usize = 20_000_000;
    let seconds = best_of(3, || {
        let (a, b) = (
            _mm512_set1_epi32(std::hint::black_box(3)),
            _mm512_set1_epi32(std::hint::black_box(5)),
        );
        let mut sums = [_mm512_setzero_si512(); 16];
        for _ in 0..STEPS / 16 {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
    });
    (STEPS * 128) as f64 / seconds / 1e9
}

fn main() {
    let isa = Isa::from_env().expect("a level of this machine");
    let bytes: Vec<u8> = (0..DECODE_BYTES as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3b)
        .collect();
    println!("level {isa}");
    for n_threads in [1, 2] {
        println!(
            "{n_threads} threads: read roof {:.1} GB/s",
            read_roof(n_threads, &bytes)
        );
    }
    #[cfg(target_arch = "x86_64")]
    if Isa::Avx512.is_available() {
        // SAFETY: the level was just found.
        println!("1 thread: vpdpbusd roof {:.0} GOP/s", unsafe { dot_roof() });
    }
    let named: Vec<DType> = std::env::args()
        .skip(1)
        .filter_map(|name| DType::from_name(&name))
        .collect();
    let dtypes = if named.is_empty() {
        vec![DType::Q4_K, DType::Q6_K, DType::Q8_0, DType::F16]
    } else {
        named
    };
    for dtype in dtypes {
        let row_bytes = dtype.row_bytes(K).expect("whole blocks");
        let n_rows = DECODE_BYTES / row_bytes / 32 * 32;
        let (rows, columns) = PREFILL;
        let x: Vec<f32> = (0..columns * K).map(|i| (i % 251) as f32 - 125.0).collect();
        let mut groups = vec![ActivationGroup::default(); x.len() / 32];
        let quantise = best_of(3, || {
            quantize_activations(isa, &x, &mut groups).expect("whole groups")
        });
        let inputs = if dtype.is_block() {
            Inputs::Quantized(QuantizedRows::new(&groups, K).expect("rows"))
        } else {
            Inputs::Floats { values: &x, k: K }
        };
        let tall =
            PackedMatrix::new(dtype, n_rows, K, &bytes[..n_rows * row_bytes]).expect("packed");
        let wide = PackedMatrix::new(dtype, rows, K, &bytes[..rows * row_bytes]).expect("packed");
        let mut out = vec![0.0; n_rows.max(rows * columns)];
        let mut packed = vec![0; packed_bytes(dtype, rows, K).expect("packed")];
        let pack = best_of(3, || {
            ggrs_cpu::pack::pack(
                dtype,
                (rows, K),
                wide.bytes(),
                0..tile_count(rows),
                &mut packed,
            )
            .expect("it packs");
        });
        println!(
            "{dtype}: quantise {:.1} GB/s of F32, pack {:.1} GB/s",
            (x.len() * 4) as f64 / quantise / 1e9,
            packed.len() as f64 / pack / 1e9
        );
        let short = CACHED_BYTES / row_bytes / 32 * 32;
        let short =
            PackedMatrix::new(dtype, short, K, &bytes[..short * row_bytes]).expect("packed");
        let cached = product(isa, 1, &short, &inputs, 1, &mut out);
        println!(
            "{dtype}, 1 thread: decode from the cache {:.1} GB/s",
            short.bytes().len() as f64 / cached / 1e9
        );
        for n_threads in [1, 2] {
            let decode = product(isa, n_threads, &tall, &inputs, 1, &mut out);
            let prefill = product(isa, n_threads, &wide, &inputs, columns, &mut out);
            println!(
                "{dtype}, {n_threads} threads: decode {:.1} GB/s, prefill {:.0} GOP/s",
                tall.bytes().len() as f64 / decode / 1e9,
                (2 * rows * columns * K) as f64 / prefill / 1e9
            );
        }
    }
}
