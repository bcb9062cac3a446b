//! Devices that reach each other's memory as members of one group, each with a plan and a runner of its own: what a
//! device made of them does, without it. On the simulator, or on this machine's first devices if `GGRS_TEST_DEVICE`
//! names a CUDA device.

use std::any::Any;
use std::sync::Arc;

use ggrs_core::Graph;
use ggrs_core::device::{Backend as _, Bindings, Device, DeviceName, Precision, Runner};
use ggrs_core::plan::{Plan, PlanOptions, plan};
use ggrs_cuda::{CudaBackend, Nccl, Nvrtc};

use crate::gpu::simulator_folder;

/// Threads of a warp of the simulator.
pub const WARP: u32 = 32;

/// Are real devices asked for?
#[must_use]
pub fn is_real() -> bool {
    std::env::var("GGRS_TEST_DEVICE").is_ok_and(|device| device.starts_with("cuda"))
}

/// The backend of the members; `None`, told on the terminal, where there is no simulator.
#[must_use]
pub fn backend() -> Option<CudaBackend> {
    if is_real() {
        return Some(CudaBackend::from_env().with_nccl(Nccl::find()));
    }
    Some(CudaBackend::in_folder(simulator_folder(WARP)?))
}

/// The compiler of their kernels, where [`backend`] is.
///
/// # Panics
/// If there is no simulator.
#[must_use]
pub fn compiler() -> Nvrtc {
    if is_real() {
        return Nvrtc::from_env();
    }
    let folder = simulator_folder(WARP);
    Nvrtc::in_folder(folder.unwrap_or_else(|| unreachable!("the simulator was there")))
}

/// The name of device `i`.
///
/// # Panics
/// Never: the name is a device's.
#[must_use]
pub fn name(i: usize) -> DeviceName {
    let name = format!("cuda:{i}");
    name.parse().unwrap_or_else(|e| unreachable!("{name}: {e}"))
}

/// The first `n` devices.
///
/// # Panics
/// If there are fewer.
#[must_use]
pub fn devices(backend: &CudaBackend, n: usize) -> Vec<Arc<dyn Device>> {
    let open = |i| backend.open(&name(i));
    let opened: Result<_, _> = (0..n).map(open).collect();
    opened.unwrap_or_else(|e| unreachable!("{e}"))
}

/// Makes the devices members of one group, as a device made of them does.
///
/// # Panics
/// If they do not reach each other.
#[must_use]
pub fn link(devices: &[Arc<dyn Device>]) -> Vec<Arc<dyn Any + Send + Sync>> {
    let links = devices.iter().enumerate().map(|(i, d)| d.link(i, devices));
    let links: Option<Vec<_>> = links.map(|link| link.ok().flatten()).collect();
    links.unwrap_or_else(|| unreachable!("the members reach each other"))
}

/// A member's plan.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn planned(device: &Arc<dyn Device>, graph: &Graph, precision: Precision) -> Arc<Plan> {
    let options = PlanOptions {
        precision,
        ..PlanOptions::default()
    };
    Arc::new(plan(graph, &**device, &options).unwrap_or_else(|e| unreachable!("{e}")))
}

/// The members' plans, compiled.
///
/// # Panics
/// If one has no plan or no memory.
#[must_use]
pub fn runners(devices: &[Arc<dyn Device>], graph: &Graph, precision: Precision) -> Vec<Runner> {
    let plans: Vec<_> = devices
        .iter()
        .map(|d| planned(d, graph, precision))
        .collect();
    let compile = |(d, p): (&Arc<dyn Device>, _)| Runner::new(&**d, p, &Bindings::new());
    let compiled: Result<_, _> = devices.iter().zip(&plans).map(compile).collect();
    compiled.unwrap_or_else(|e| unreachable!("{e}"))
}

/// Runs all members, each on a thread of its own: they wait for each other.
///
/// # Panics
/// If one fails.
pub fn run_all(runners: &mut [Runner]) {
    std::thread::scope(|scope| {
        let runs = runners.iter_mut().map(|r| scope.spawn(|| r.run()));
        let runs: Vec<_> = runs.collect();
        for (i, run) in runs.into_iter().enumerate() {
            match run.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => unreachable!("member {i}: {error}"),
                Err(_) => unreachable!("member {i} panicked"),
            }
        }
    });
}

/// F32 values as bytes have them.
#[must_use]
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|w| f32::from_le_bytes(*w)).collect()
}
