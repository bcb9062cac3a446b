//! Arithmetic on rows of F32, vectorised for every instruction-set level: what kernels are made of.
//!
//! Everything is written once over `Lanes`; `dispatch` enters it with the level's instructions enabled. It must not
//! know tensors, strides, threads or ops beyond the names of the unary functions.

mod exponential;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_avx2;
#[cfg(target_arch = "x86_64")]
mod lanes_avx512;
mod lanes_scalar;
mod linear;
mod prefetch;
mod product;
mod reduce;
mod rotate;
mod rows;
mod softmax;
mod unary;

pub(crate) use lanes::{Lanes, Task, dispatch};
pub use linear::{add, axpy, scale, scale_deviations, scale_each, scale_in_place};
pub(crate) use prefetch::prefetch;
pub(crate) use product::{Extent, Factor, VECTOR, multiply};
pub use reduce::{deviations, dot, max, sum, sum_squares};
pub(crate) use rotate::{Rotation, rotate_halves, rotate_pairs};
pub use rows::read_row;
pub(crate) use rows::{Gathered, can_gather, gather, gather_turned};
pub(crate) use softmax::{OnlineRows, merge_scores, soft_cap, softmax_row};
pub use unary::{gated, unary, unary_in_place};
