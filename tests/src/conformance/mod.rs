//! The conformance suite: every problem on a device, in every way that a graph can run there.

mod judge;
mod misdeed;
mod share;
mod stems;
mod suite;
mod trial;

pub use judge::{Complaint, judge};
pub use stems::all_stems;
pub use suite::{ONE_DEVICE, Target, Unsupported, available, check_stem};
pub use trial::{Trial, outputs, try_problem};
