//! Timing by the device itself: a problem many times over in one recording, and the roof it is compared with.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ggrs_core::device::{Device, KernelTime, Precision, Runner};
use ggrs_core::ops::Contiguous;
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DType, GraphError};
use ggrs_cuda::simt::{MatrixRoof, SimtDevice};
use ggrs_tests::problem::{Posed, Problem, Role, Scene, Tolerance, operand, pose};

use crate::Work;
use crate::prepared::{bind, check, leaf};
use crate::rotated::rotated;
use crate::sampled::{Sample, Sampled};

/// What copies of a problem hold together, at least: several times the caches of any GPU.
const ROTATED_BYTES: f64 = 300e6;

/// Copies at most: beyond, only the recording grows.
const MAX_COPIES: usize = 48;

/// Bytes of all copies' weights and states at most: a token reads little of a bank of experts, but all of it is loaded.
const LOADED_BYTES: f64 = 4e9;

/// What a GPU can do.
#[derive(Clone, Copy, Debug)]
pub struct GpuRoof {
    /// Bytes per second of a large copy, counting those read and those written.
    pub bytes_per_second: f64,
    /// Bytes per second from pinned host memory, if the device can tell.
    pub bus_per_second: Option<f64>,
    /// Matrix units, if there are any.
    pub matrix: Option<MatrixRoof>,
}

/// Bytes that the bus is measured with.
const UPLOADED: u64 = 1 << 30;

/// A copy of so many values.
#[derive(Clone, Debug)]
struct Copied(usize);

impl Problem for Copied {
    fn stem(&self) -> &'static str {
        "contiguous"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene.state(&operand(DType::F32, [self.0])).normals(1.0)?;
        let y = scene.apply(Contiguous, &[&x])?;
        scene.expect(y, Tolerance::of("contiguous", DType::F32), || x.floats())
    }
}

impl GpuRoof {
    /// Measures it.
    ///
    /// # Errors
    /// The device fails, or cannot tell times.
    pub fn measure(device: &dyn Device) -> Result<Self, Box<dyn Error>> {
        let posed = rotated(&pose(&Copied(16 << 20), false)?, 8)?;
        let (seconds, work, _) = time(device, &posed, |_| Ok(()))?;
        let upload = device.time_upload(UPLOADED)?;
        let gpu = device.as_any().and_then(|d| d.downcast_ref::<SimtDevice>());
        let matrix = gpu.map(SimtDevice::matrix_roof).transpose()?.flatten();
        Ok(Self {
            matrix,
            bytes_per_second: work.bytes / seconds,
            bus_per_second: upload.map(|seconds| UPLOADED as f64 / seconds),
        })
    }
}

impl fmt::Display for GpuRoof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copies move {:.0} GB/s", self.bytes_per_second / 1e9)?;
        if let Some(bus) = self.bus_per_second {
            write!(f, ", from the host {:.1} GB/s", bus / 1e9)?;
        }
        match self.matrix {
            Some(MatrixRoof {
                per_second,
                instruction,
            }) => write!(
                f,
                ", {instruction} gives {:.1} TFLOP/s of F16",
                per_second / 1e12
            ),
            None => f.write_str(", no matrix units"),
        }
    }
}

/// One problem, timed.
pub struct GpuTimed {
    seconds: f64,
    work: Work,
    n_launches: usize,
    kernel: String,
    /// Results that were compared with the oracle.
    n_sampled: usize,
}

impl GpuTimed {
    /// A line of the report.
    pub fn line(&self, name: &str, roof: &GpuRoof) -> String {
        let bytes = self.work.bytes / self.seconds;
        let sampled = match self.n_sampled {
            0 => String::new(),
            n => format!(", {n} checked"),
        };
        let flops = self.work.flops / self.seconds;
        let share = roof.matrix.map_or_else(String::new, |matrix| {
            format!(
                " = {:5.1}% of {}",
                100.0 * flops / matrix.per_second,
                matrix.instruction
            )
        });
        format!(
            "{name:44} {:9.2} us {:8.1} GB/s = {:5.1}% of a copy {:8.2} TFLOP/s{share}  {} launches, {}{sampled}",
            self.seconds * 1e6,
            bytes / 1e9,
            100.0 * bytes / roof.bytes_per_second,
            flops / 1e12,
            self.n_launches,
            self.kernel
        )
    }
}

/// Checks the kernel on the small problem against the oracle, then times the large one, of which some is checked too.
///
/// # Errors
/// The small problem fails or is refused, or the large one cannot be run.
pub fn time_on_gpu(
    device: &dyn Device,
    small: &dyn Problem,
    large: &dyn Sampled,
) -> Result<GpuTimed, Box<dyn Error>> {
    check(device, small, &options())?;
    let posed = pose(large, false)?;
    let one = plan(&posed.graph, device, &options())?.cost();
    let loaded = posed.leaves.iter().filter(|l| l.role != Role::Input);
    let loaded: usize = loaded.map(|l| l.bytes.len()).sum();
    let copies = (ROTATED_BYTES / one.bytes.max(1.0)).ceil();
    let copies = copies.min(LOADED_BYTES / loaded.max(1) as f64).max(3.0);
    let copies = (copies as usize).min(MAX_COPIES);
    let sample = large.sample(&posed);
    let n_sampled = sample.as_ref().map_or(0, Sample::n_results);
    let look = |runner: &mut Runner| match sample {
        Some(sample) => sample.check(large.stem(), large.dtype(), &runner.get("y0#0")?),
        None => Ok(()),
    };
    let (seconds, work, times) = time(device, &rotated(&posed, copies)?, look)?;
    let n = copies as f64;
    let slowest = times.first().map(|t| t.kernel.clone());
    Ok(GpuTimed {
        seconds: seconds / n,
        work: Work {
            flops: work.flops / n,
            bytes: work.bytes / n,
        },
        n_launches: times.iter().map(|t| t.n_launches).sum::<usize>() / copies,
        kernel: slowest.unwrap_or_default(),
        n_sampled,
    })
}

pub(crate) fn options() -> PlanOptions {
    PlanOptions {
        precision: Precision::Fast,
        passes: PassSet::none(),
        collectives: None,
    }
}

/// Seconds of one run, its work, and which kernels took them. Before, a run is looked at.
fn time(
    device: &dyn Device,
    posed: &Posed,
    look: impl FnOnce(&mut Runner) -> Result<(), Box<dyn Error>>,
) -> Result<(f64, Work, Vec<KernelTime>), Box<dyn Error>> {
    let plan = Arc::new(plan(&posed.graph, device, &options())?);
    let mut runner = Runner::new(device, &plan, &bind(posed, device, &plan)?)?;
    for slot in &plan.inputs {
        runner.set(&slot.name, &leaf(posed, &slot.name)?.bytes)?;
    }
    runner.run()?;
    look(&mut runner)?;
    let times = runner.executable().profile()?;
    if times.is_empty() {
        return Err("the device cannot tell where time goes".into());
    }
    let cost = plan.cost();
    let work = Work {
        flops: cost.flops,
        bytes: cost.bytes,
    };
    Ok((times.iter().map(|t| t.seconds).sum(), work, times))
}
