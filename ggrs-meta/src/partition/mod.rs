//! SPMD partition: one graph becomes one graph per member, with the communication between them as nodes.

mod convert;
mod emit;
mod expert_rows;
mod flow;
mod late;
mod member;
mod result;
mod top_k;
mod verify;

pub use result::{CollectiveNote, Partition, partition};
pub use verify::verify;
