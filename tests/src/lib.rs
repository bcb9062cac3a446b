//! Graph-level tests of GGRS: the float64 oracle, fixtures computed elsewhere, tolerances, random inputs, sentinels.
//!
//! Everything here is for tests: it may panic on a test's own mistake, and no other crate depends on it.

pub mod conformance;
pub mod fake;
pub mod fixtures;
pub mod gpu;
pub mod members;
pub mod nmse;
pub mod oracle;
pub mod placed;
pub mod problem;
pub mod problems;
pub mod random;
pub mod sentinel;
pub mod tolerance;
