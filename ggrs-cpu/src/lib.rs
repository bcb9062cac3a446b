//! The CPU device of GGRS.

pub mod formats;
pub mod gemm;
pub mod isa;
mod kernel;
mod kernels;
pub mod pack;
mod part;
mod pool;
mod routes;
mod team;
mod view;
