//! The CUDA devices of GGRS: the driver and its compiler NVRTC, both loaded when the program runs; NCCL where it is.
//!
//! A machine without them is a machine without these devices: [`CudaBackend`] lists none there, and opening one is an
//! error that says what is missing. Nothing is linked, and nothing of CUDA is needed to build.
//!
//! `GGRS_CUDA_DIR`, `GGRS_NVRTC_DIR` and `GGRS_NCCL_DIR` name folders to look in instead of where the system looks.

mod api;
mod backend;
mod communicator;
mod driver;
mod error;
mod facts;
mod graph;
mod launch;
mod library;
mod memory;
mod nccl;
mod nvrtc;
mod probe;
mod resources;
mod table;

pub use backend::CudaBackend;
pub use nccl::{
    FOLDER_VARIABLE as NCCL_FOLDER_VARIABLE, Nccl, SWITCH_VARIABLE as NCCL_SWITCH_VARIABLE,
};
pub use nvrtc::{FOLDER_VARIABLE as COMPILER_FOLDER_VARIABLE, Nvrtc};
pub use probe::{FOLDER_VARIABLE as DRIVER_FOLDER_VARIABLE, NoCuda, Present, Version, probe};
pub use resources::{KernelResources, kernel_resources};

/// What stands above the driver: kernels, their modules, the device.
pub use ggrs_simt as simt;
