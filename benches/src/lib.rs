//! What the benchmarks share: the measured roofs of the machine, and timing that reports shares of them.

mod roof;
mod timed;

pub use roof::Roof;
pub use timed::{Work, bench};
