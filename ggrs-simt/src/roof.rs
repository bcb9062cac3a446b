//! What matrix units give at most: a kernel that does nothing but multiply, timed by the device. Diagnostics, for
//! benchmarks to compare products with; nothing that runs models asks for it.

use bytemuck::{Pod, Zeroable};
use ggrs_core::DeviceError;

use crate::device::SimtDevice;
use crate::driver::{Facts, Platform};
use crate::kernel::{Launch, ModuleKey};

/// `Roof` of `roof.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Roof {
    sums: u64,
    n_rounds: i32,
    pad: i32,
}

const _: () = assert!(size_of::<Roof>() == 16);

/// Threads of a block, and blocks of a multiprocessor.
const THREADS: u32 = 256;
const BLOCKS: u32 = 2;

/// Times that the kernel runs; the best counts.
const RUNS: usize = 3;

/// What matrix units give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixRoof {
    /// F16 operations per second, with F32 sums.
    pub per_second: f64,
    /// By which instruction.
    pub instruction: &'static str,
}

/// A kernel of `roof.cu`.
#[derive(Clone, Copy)]
struct Kernel {
    name: &'static str,
    instruction: &'static str,
    /// Operations of a block in a round.
    operations: f64,
    /// Long enough for clocks to settle: about 10 ms.
    n_rounds: i32,
}

/// 8 warps, 8 products of 16 x 8 x 16.
const MMA: Kernel = Kernel {
    name: "roof_mma",
    instruction: "mma.sync",
    operations: (8 * 8 * 2 * 16 * 8 * 16) as f64,
    n_rounds: 32_768,
};

/// 2 groups, 16 products of 64 x 128 x 16.
const WGMMA: Kernel = Kernel {
    name: "roof_wgmma",
    instruction: "wgmma",
    operations: (2 * 16 * 2 * 64 * 128 * 16) as f64,
    n_rounds: 4096,
};

/// The kernel for the device's matrix units, if it has any.
fn kernel(facts: &Facts) -> Option<Kernel> {
    let has_units = facts.has_matrix_units && facts.platform == Platform::Cuda;
    let kernel = match facts.arch.as_str() {
        // A simulator is asked only whether the kernel runs.
        _ if facts.is_simulated => Kernel { n_rounds: 4, ..MMA },
        "sm_90a" => WGMMA,
        _ => MMA,
    };
    has_units.then_some(kernel)
}

impl SimtDevice {
    /// What the matrix units give, measured now; `None` without any.
    ///
    /// # Errors
    /// The device failed, or the kernel does not compile.
    pub fn matrix_roof(&self) -> Result<Option<MatrixRoof>, DeviceError> {
        let context = self.context();
        let facts = context.facts();
        let Some(kernel) = kernel(facts) else {
            return Ok(None);
        };
        let blocks = facts.n_multiprocessors.max(1) * BLOCKS;
        let bytes = 4 * u64::from(blocks * THREADS);
        let sums = context.alloc(bytes, "measuring matrix units")?;
        let params = Roof {
            sums: sums.0,
            n_rounds: kernel.n_rounds,
            pad: 0,
        };
        let mut launch = Launch::new(module(), kernel.name, blocks, THREADS, &params);
        launch.geometry.overlaps = false;
        let gate = context.gate();
        let timed = context.best_seconds(&gate, RUNS, &|| context.launch(&gate, &launch));
        drop(gate);
        context.free(sums, bytes);
        let operations = kernel.operations * f64::from(kernel.n_rounds) * f64::from(blocks);
        Ok(Some(MatrixRoof {
            per_second: operations / timed?,
            instruction: kernel.instruction,
        }))
    }
}

fn module() -> ModuleKey {
    ModuleKey::plain("roof")
}

/// The modules of diagnostics.
pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![module()]
}
