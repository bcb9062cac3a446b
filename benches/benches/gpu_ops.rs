//! Kernels of a GPU by op and format, at the sizes of Qwen3-30B-A3B: checked against the oracle, then timed by the
//! device on replays over more weights than its caches hold.
//!
//! Names are `op/format/shape`. `GGRS_DEVICE` names the device (`cuda:0`); an argument chooses cases by a part of their
//! names. Without the device nothing is measured, and that is said.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::error::Error;
use std::sync::Arc;

use ggrs_benches::{Case, GpuRoof, GpuTimed, time_on_gpu};
use ggrs_core::DType;
use ggrs_core::device::{Backend, Device};
use ggrs_cuda::CudaBackend;

/// Dense products: projections of one token and of a prefill, and the head.
fn linears() -> Vec<Case> {
    let formats = DType::ALL.into_iter();
    let mut all = Vec::new();
    for dtype in formats.filter(|d| d.is_float() || d.is_block()) {
        let mut shapes = vec![(4096, 2048, 1)];
        if matches!(
            dtype,
            DType::Q4_K | DType::Q6_K | DType::Q8_0 | DType::F16 | DType::BF16
        ) {
            shapes.extend([
                (2048, 4096, 1),
                (4096, 2048, 8),
                (4096, 2048, 512),
                (4096, 2048, 4096),
            ]);
        }
        if matches!(dtype, DType::Q6_K) {
            shapes.push((151_936, 2048, 1));
        }
        if dtype == DType::F32 {
            shapes = vec![(128, 2048, 1), (128, 2048, 4096)];
        }
        let case = |(m, k, n)| Case::linear(dtype, m, k, n);
        all.extend(shapes.into_iter().map(case));
    }
    all
}

fn cases() -> Vec<Case> {
    let mut all = linears();
    for dtype in [DType::Q4_K, DType::Q6_K, DType::Q8_0] {
        for n in [1, 512, 4096] {
            all.push(Case::experts(dtype, 128, (768, 2048, n), true));
            all.push(Case::experts(dtype, 128, (2048, 768, n), false));
        }
    }
    for dtype in [DType::F16, DType::Q8_0] {
        for (n, kv) in [(1, 128), (1, 4096), (1, 16_384), (512, 512), (4096, 4096)] {
            all.push(Case::attention(dtype, n, kv));
        }
    }
    for n in [1, 512, 4096] {
        all.extend([Case::norm(n), Case::route(n)]);
    }
    all
}

fn main() -> Result<(), Box<dyn Error>> {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let name = std::env::var("GGRS_DEVICE").unwrap_or_else(|_| "cuda:0".to_owned());
    let device: Arc<dyn Device> = match CudaBackend::from_env().open(&name.parse()?) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("nothing is measured: {error}");
            return Ok(());
        }
    };
    let roof = GpuRoof::measure(&*device)?;
    println!(
        "{} ({}): copies move {:.0} GB/s",
        device.name(),
        device.info().hardware,
        roof.bytes_per_second / 1e9
    );
    for case in cases() {
        if !wanted.is_empty() && !wanted.iter().any(|w| case.name.contains(w)) {
            continue;
        }
        let timed: GpuTimed = time_on_gpu(&*device, &*case.small, &*case.large)
            .map_err(|error| format!("{}: {error}", case.name))?;
        println!("{}", timed.line(&case.name, &roof));
    }
    Ok(())
}
