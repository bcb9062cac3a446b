//! Parts that architectures share, as functions over a graph under construction.

mod attention;
mod experts;
mod input;

pub(crate) use attention::KV_DTYPES;
pub(crate) use attention::{AttentionBlock, KvLeaves, head_link};
pub(crate) use experts::ExpertsBlock;
pub(crate) use input::{N_RECENT, StepInputs, names};
