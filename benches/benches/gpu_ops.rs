//! Kernels of a GPU by op and format, at the sizes of Qwen3-30B-A3B: timed by the device on replays over more weights than
//! its caches hold. A small problem of the same kind is checked against the oracle before, and of the large one some
//! results, drawn at random.
//!
//! Names are `op/format/shape`. `GGRS_DEVICE` names the device (`cuda:0`); with several (`cuda:0,cuda:1`) sums over them
//! are measured too. Arguments choose cases by a part of their names. Without the device nothing is measured, and that is
//! said. Compile kernels ahead (`ggrs kernels`): one by one they take longer than all the rest.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use ggrs_benches::{Case, GpuRoof, GpuTimed, Group, time_on_gpu};
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
                (4096, 2048, 4),
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

/// The short families first: formats are many.
fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for n in [1, 512, 4096] {
        all.extend([Case::norm(n), Case::route(n)]);
    }
    for dtype in [DType::F16, DType::Q8_0] {
        for (n, kv) in [(1, 128), (1, 4096), (1, 16_384), (512, 512), (4096, 4096)] {
            all.push(Case::attention(dtype, n, kv));
        }
    }
    for dtype in [DType::Q4_K, DType::Q6_K, DType::Q8_0] {
        for n in [1, 512, 4096] {
            all.push(Case::experts(dtype, 128, (768, 2048, n), true));
            all.push(Case::experts(dtype, 128, (2048, 768, n), false));
        }
    }
    all.extend(linears());
    all
}

/// Sums of the hidden state of so many tokens.
const SUMMED: [usize; 4] = [1, 8, 512, 4096];

/// The sums over several devices, where they reach each other.
fn time_sums(
    devices: Vec<Arc<dyn Device>>,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<(), Box<dyn Error>> {
    let members = devices.len();
    let name = |n| match n {
        1 => format!("all_reduce/f32/2048,members{members}"),
        n => format!("all_reduce/f32/{n}x2048,members{members}"),
    };
    if members < 2 || !SUMMED.iter().any(|n| is_wanted(&name(*n))) {
        return Ok(());
    }
    let Some(group) = Group::link(devices)? else {
        println!("all_reduce: not measured, the devices do not reach each other's memory");
        return Ok(());
    };
    for n in SUMMED.into_iter().filter(|n| is_wanted(&name(*n))) {
        println!("{}", group.time_all_reduce(n * 2048)?.line(&name(n)));
    }
    Ok(())
}

fn open(names: &str) -> Result<Vec<Arc<dyn Device>>, Box<dyn Error>> {
    let backend = CudaBackend::from_env();
    let open = |name: &str| Ok(backend.open(&name.trim().parse()?)?);
    names.split(',').map(open).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w));
    let names = std::env::var("GGRS_DEVICE").unwrap_or_else(|_| "cuda:0".to_owned());
    let devices = match open(&names) {
        Ok(devices) => devices,
        Err(error) => {
            eprintln!("nothing is measured: {error}");
            return Ok(());
        }
    };
    let Some(device) = devices.first().map(Arc::clone) else {
        return Ok(());
    };
    let roof = GpuRoof::measure(&*device)?;
    println!("{} ({}): {roof}", device.name(), device.info().hardware);
    println!(
        "checked against the oracle: all of a small problem of each kind, and of what is timed as many results as is said"
    );
    time_sums(devices, &is_wanted)?;
    let mut n_cases = 0;
    for case in cases().into_iter().filter(|case| is_wanted(&case.name)) {
        let timed: GpuTimed = time_on_gpu(&*device, &*case.small, &*case.large)
            .map_err(|error| format!("{}: {error}", case.name))?;
        println!("{}", timed.line(&case.name, &roof));
        n_cases += 1;
    }
    println!("{n_cases} cases in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
