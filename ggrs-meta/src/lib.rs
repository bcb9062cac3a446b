//! Several devices as one: split plans, sharded tensors, collectives.

mod bind;
mod buffer;
mod crew;
mod device;
mod executable;
mod gaps;
mod options;
mod partition;
mod profile;
mod queue;
mod ranges;
mod schedule;
mod split_plan;
mod transfer;
mod transport;
mod views;
mod weights;

pub use device::{MetaDevice, PATIENCE};
pub use options::{ExpertSplit, MetaOptions, Reduction};
pub use partition::{CollectiveNote, Partition, partition, verify};
pub use ranges::{RangeMap, Run, Runs, ViewRanges};
pub use split_plan::{GroupPlan, SplitPlan, TensorCut};
pub use transport::{Exchange, HostTransport, Transport};
pub use views::{fill_view, read_view, write_view};
