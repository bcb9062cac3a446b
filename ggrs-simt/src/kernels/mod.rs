//! Op families: which kernel takes an op, and with which launches.

pub(crate) mod attention;
pub(crate) mod axes;
pub(crate) mod cache;
pub(crate) mod collective;
pub(crate) mod elementwise;
pub(crate) mod fused;
pub(crate) mod gemm;
pub(crate) mod glu;
pub(crate) mod matmul;
pub(crate) mod moe;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod norm_q8;
pub(crate) mod pages;
pub(crate) mod product;
pub(crate) mod qk_prep;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod rope;
pub(crate) mod sample;
pub(crate) mod select;
pub(crate) mod softmax;
