//! The real CPU opened as several members, for tests that want no fake.

use std::sync::Arc;

use ggrs_core::DeviceError;
use ggrs_core::device::{Backend, Device, DeviceName};
use ggrs_cpu::{CpuBackend, CpuOptions};

/// The members `cpu:0/n` to `cpu:n-1/n` of a CPU of `threads` threads; each has at least one.
///
/// # Errors
/// The system gives no threads.
pub fn cpu_members(n: usize, threads: usize) -> Result<Vec<Arc<dyn Device>>, DeviceError> {
    let backend = CpuBackend::new(CpuOptions {
        threads: Some(threads),
        ..CpuOptions::default()
    });
    let open = |index| {
        backend.open(&DeviceName {
            backend: "cpu".to_owned(),
            index,
            members: n,
        })
    };
    (0..n).map(open).collect()
}
