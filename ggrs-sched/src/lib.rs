//! Which device runs which op of a graph: pins, homes of weights, support and bytes copied decide; the graph is cut into
//! one per device, with a copy for every value that crosses. It must not know what a device is made of.

mod assign;
mod cut;
mod error;
mod pattern;
mod placement;
mod plan;
pub mod report;
mod run;

pub use error::SchedError;
pub use pattern::Pattern;
pub use placement::{Home, Leaves, Pin, Placement, Spread};
pub use plan::{CopySource, CopyStep, PlanPart, SchedPlan};
pub use run::{SchedRunner, WeightFile};
