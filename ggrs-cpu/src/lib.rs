//! The CPU device of GGRS.

pub mod formats;
pub mod gemm;
pub mod isa;
pub mod pack;
