//! Matrix products of packed weights: integer dot products for block formats, F32 ones for float formats.
//!
//! It must not know graphs, buffers or threads: callers split the tiles among their threads.

#[cfg(target_arch = "x86_64")]
mod amx;
mod blocks;
mod dispatch;
mod error;
mod float_kernel;
mod integer_kernel;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_avx2;
#[cfg(target_arch = "x86_64")]
mod lanes_avx512;
mod lanes_scalar;
mod output;
mod product;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::amx_is_available;
pub use error::GemmError;
pub use output::{Columns, Output, Routed};
pub use product::{Inputs, matmul};
