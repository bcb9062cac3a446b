//! GPUs as targets of tests: the real ones of this machine, and the simulator, which runs the same host code and the
//! same kernels on the processor.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use ggrs_core::device::{Backend, Device, Registry};
use ggrs_cpu::CpuBackend;
use ggrs_cuda::CudaBackend;

use crate::conformance::{Target, available};

/// The device that `GGRS_TEST_DEVICE` names, for tests that run on any one device; the CPU without it.
///
/// # Panics
/// If there is no such device: it was asked for.
pub fn chosen() -> Arc<dyn Device> {
    let name = std::env::var("GGRS_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let opened = CpuBackend::from_env().and_then(|cpu| {
        let backends: [Box<dyn Backend>; 2] = [Box::new(cpu), Box::new(CudaBackend::from_env())];
        Registry::with(backends).open(&name)
    });
    opened.unwrap_or_else(|error| unreachable!("GGRS_TEST_DEVICE: {error}"))
}

/// The first CUDA device, once per process; `None`, told on the terminal, where there is none.
pub fn cuda() -> Option<Target> {
    static DEVICE: OnceLock<Option<Arc<dyn Device>>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let name = "cuda:0".parse().ok()?;
        let opened = CudaBackend::from_env().open(&name);
        available("cuda", opened.is_ok()).then_some(opened.ok()?)
    });
    device.as_ref().map(|device| Target {
        name: device.info().hardware,
        devices: vec![Arc::clone(device)],
    })
}

/// The simulator's backend with warps of this width; `None`, told on the terminal, where no C++ compiler builds it.
///
/// A process has one driver and so one width: tests of another width are another binary.
///
/// # Panics
/// If the simulator does not build.
pub fn simulator(warp: u32) -> Option<&'static CudaBackend> {
    static BACKEND: OnceLock<Option<CudaBackend>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| Some(CudaBackend::in_folder(simulator_folder(warp)?)));
    backend.as_ref()
}

/// Where the simulator with warps of this width is, built now if it has to be; `None`, told on the terminal, where no C++
/// compiler builds it.
///
/// # Panics
/// If it does not build.
pub fn simulator_folder(warp: u32) -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
        let has_compiler = Command::new(compiler).arg("--version").output().is_ok();
        available("simulator", has_compiler).then(|| build(warp))
    });
    folder.as_deref()
}

/// One device of the simulator.
///
/// # Panics
/// If it does not open.
pub fn simulated(warp: u32) -> Option<Target> {
    static DEVICE: OnceLock<Option<Arc<dyn Device>>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let backend = simulator(warp)?;
        let name = "cuda:0".parse().ok()?;
        Some(
            backend
                .open(&name)
                .unwrap_or_else(|e| unreachable!("the simulator opens: {e}")),
        )
    });
    device.as_ref().map(|device| Target {
        name: format!("the simulator with warps of {warp}"),
        devices: vec![Arc::clone(device)],
    })
}

/// Builds the simulator and says where it is.
fn build(warp: u32) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join(format!("target/simulator/warp{warp}"));
    let built = Command::new("sh")
        .arg(root.join("ggrs-simt/sim/build.sh"))
        .arg(&folder)
        .env("GGRS_SIM_WARP", warp.to_string())
        .output();
    match built {
        Ok(output) if output.status.success() => folder,
        Ok(output) => unreachable!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => unreachable!("the simulator is not built: {error}"),
    }
}
