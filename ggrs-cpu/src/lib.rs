//! The CPU device of GGRS.

mod buffer;
mod device;
mod executable;
pub mod formats;
pub mod gemm;
pub mod isa;
mod kernel;
mod kernels;
pub mod math;
mod memory;
pub mod pack;
mod part;
mod pool;
mod queue;
mod routes;
mod system;
mod team;
mod view;
mod weights;

pub use device::{CpuBackend, CpuOptions};
