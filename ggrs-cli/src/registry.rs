//! The devices that this program has: the one place that names backends.

use ggrs_core::device::null::NullBackend;
use ggrs_core::device::{Backend, Registry};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};

use crate::error::CliError;

/// What the null device claims to have: it plans anything and computes nothing.
const NULL_MEMORY_BYTES: u64 = 1 << 50;

/// The null backend's name; it is not a device that one would list.
pub(crate) const NULL: &str = "null";

/// Every backend. `threads` is for the CPU; `None` for all that there are.
pub(crate) fn registry(threads: Option<usize>) -> Result<Registry, CliError> {
    let isa = Isa::from_env()?;
    let backends: Vec<Box<dyn Backend>> = vec![
        Box::new(CpuBackend::new(CpuOptions { threads, isa })),
        #[cfg(feature = "cuda")]
        Box::new(ggrs_cuda::CudaBackend::from_env()),
        Box::new(NullBackend {
            memory_bytes: NULL_MEMORY_BYTES,
        }),
    ];
    Ok(Registry::with(backends))
}
