//! The facade.
pub use ggrs_core as core;
