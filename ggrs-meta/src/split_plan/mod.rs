//! Who holds what: every linked group of weights cut once, in whole atoms, by the members' ratios.

mod cut;
mod experts;
mod group;
mod plan;

pub use group::{GroupPlan, TensorCut};
pub use plan::SplitPlan;
