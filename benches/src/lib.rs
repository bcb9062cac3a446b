//! What the benchmarks share: the measured roofs of the machine, problems of model size, timing that reports shares of
//! the roofs.

mod cases;
mod collectives;
mod gpu;
mod prepared;
mod problems;
mod roof;
mod rotated;
mod sampled;
mod timed;

pub use cases::Case;
pub use collectives::{Group, SumTimed};
pub use gpu::{GpuRoof, GpuTimed, time_on_gpu};
pub use prepared::{Prepared, prepare};
pub use roof::Roof;
pub use sampled::{Sample, Sampled};
pub use timed::{Work, bench};
