//! GGRS: a compute-graph runtime whose graphs are checked when they are built.
//!
//! This package is the facade: it re-exports the family. [`GraphBuilder`] checks dtype, shape and layout of every op
//! as it is added; a [`plan()`] fixes device, kernel and memory of every node before anything runs; a device runs
//! it. The README has a whole example.
//!
//! A wrong shape is an error where it is written, not an abort in a kernel:
//!
//! ```
//! # use ggrs::{DType, GraphBuilder};
//! let mut b = GraphBuilder::new();
//! let w = b.weight("blk.0.attn_q.weight", DType::Q4_K, [512, 256])?;
//! let x = b.input("x", DType::F32, [7, 128])?;
//! let error = b.matmul(w, x).unwrap_err().to_string();
//! assert!(error.contains("inner size k differs: x has 128, weights has 256"));
//! # Ok::<(), ggrs::GraphError>(())
//! ```

pub use ggrs_core::plan::{Plan, PlanOptions, plan};
pub use ggrs_core::*;

/// Several devices as one.
pub use ggrs_meta as meta;
/// What lies and runs where on several devices.
pub use ggrs_sched as sched;

/// The CPU device.
#[cfg(feature = "cpu")]
pub use ggrs_cpu as cpu;
/// CUDA devices.
#[cfg(feature = "cuda")]
pub use ggrs_cuda as cuda;
/// Models: GGUF files, tokenizers, sessions.
#[cfg(feature = "model")]
pub use ggrs_model as model;

/// The README's examples, compiled.
#[cfg(all(doctest, feature = "cpu"))]
#[doc = include_str!("../README.md")]
struct Readme;
