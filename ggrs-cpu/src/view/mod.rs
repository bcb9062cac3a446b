//! Views of memory that kernels read and write: the only way from a plan's places to slices.
//!
//! The pointers and the `unsafe` of the device's data access are in this folder. A view is made from a plan whose
//! buffers were bound and checked; reading is safe because a step's operands are not written during the step, writing
//! because a [`Share`](crate::part::Share) of the work belongs to one thread.

mod grid;
mod groups;
mod input;
mod output;
mod places;
mod scratch;

pub(crate) use grid::Grid;
pub(crate) use groups::{GroupBlocks, Groups, GroupsSlot};
pub(crate) use input::In;
pub(crate) use output::{Blocks, Out, Rows};
pub(crate) use places::Places;
pub(crate) use scratch::{Scratch, ScratchLayout, Slot, Table};
