//! The kernels, one file per op family: how each is chosen, and what it computes.

pub(crate) mod attention;
pub(crate) mod cache;
pub(crate) mod collective;
pub(crate) mod elementwise;
mod float_rows;
pub(crate) mod glu;
mod held;
pub(crate) mod matmul;
pub(crate) mod moe;
pub(crate) mod movement;
pub(crate) mod norm;
mod product;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod rope;
mod rope_angles;
mod row_bytes;
mod row_map;
pub(crate) mod sample;
pub(crate) mod select;
pub(crate) mod softmax;
