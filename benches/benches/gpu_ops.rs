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

use ggrs_benches::problems::{Attend, Experts, Linear, Norm, Route};
use ggrs_benches::{GpuRoof, GpuTimed, time_on_gpu};
use ggrs_core::DType;
use ggrs_core::device::{Backend, Device};
use ggrs_cuda::CudaBackend;
use ggrs_tests::problem::Problem;

struct Case {
    name: String,
    small: Box<dyn Problem>,
    large: Box<dyn Problem>,
}

fn case(name: String, small: impl Problem + 'static, large: impl Problem + 'static) -> Case {
    Case {
        name,
        small: Box::new(small),
        large: Box::new(large),
    }
}

/// Dense products: projections of one token and of a prefill, and the head.
fn linears(all: &mut Vec<Case>) {
    let formats = DType::ALL.into_iter();
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
        for (m, k, n) in shapes {
            let format = dtype.name().to_lowercase();
            let small = Linear {
                dtype,
                m: 96,
                k: 512,
                n: n.min(40),
            };
            let large = Linear { dtype, m, k, n };
            all.push(case(format!("matmul/{format}/{m}x{k},n{n}"), small, large));
        }
    }
}

/// Expert banks.
fn experts(all: &mut Vec<Case>) {
    for dtype in [DType::Q4_K, DType::Q6_K, DType::Q8_0] {
        for (n, m, k, gated) in [
            (1, 768, 2048, true),
            (1, 2048, 768, false),
            (512, 768, 2048, true),
            (512, 2048, 768, false),
            (4096, 768, 2048, true),
            (4096, 2048, 768, false),
        ] {
            let bank = |n_experts, n_used, m, k, n| Experts {
                dtype,
                n_experts,
                n_used,
                m,
                k,
                n,
                gated,
            };
            let format = dtype.name().to_lowercase();
            let op = if gated { "matmul_id_glu" } else { "matmul_id" };
            all.push(case(
                format!("{op}/{format}/e128x8,{m}x{k},n{n}"),
                bank(8, 2, 64, 256, n.min(40)),
                bank(128, 8, m, k, n),
            ));
        }
    }
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    linears(&mut all);
    experts(&mut all);
    for dtype in [DType::F16, DType::Q8_0] {
        for (n, kv) in [(1, 128), (1, 4096), (1, 16_384), (512, 512), (4096, 4096)] {
            let attend = |n, kv| Attend {
                dtype,
                n,
                kv,
                n_heads: 32,
                n_kv_heads: 4,
                width: 128,
            };
            let format = dtype.name().to_lowercase();
            let name = format!("attention/{format}/h32x4,d128,n{n},kv{kv}");
            all.push(case(name, attend(n.min(20), 100), attend(n, kv)));
        }
    }
    for n in [1, 512, 4096] {
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
