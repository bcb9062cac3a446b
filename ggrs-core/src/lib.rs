//! Tensors, ops, graphs, passes, plans and device traits of GGRS.

mod dtype;

pub use dtype::{DType, DTypeKind};
