//! Errors of tensors that lie over several members: what cannot be cut so, and what cannot be read.

use crate::DType;

/// Why a tensor cannot lie over members as asked, or why bytes of it cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A cut for another number of members.
    #[error("it is cut for {found} members, the device has {expected}")]
    Members {
        /// Members of the device.
        expected: usize,
        /// Members of the cut.
        found: usize,
    },
    /// An axis that the tensor does not have.
    #[error("it is cut along axis {axis}, the tensor has {rank} axes")]
    Axis {
        /// The axis.
        axis: usize,
        /// Axes of the tensor.
        rank: usize,
    },
    /// A cut of an axis of another size.
    #[error("the cut covers {covered} elements of axis {axis}, the tensor has {size}")]
    Size {
        /// The axis.
        axis: usize,
        /// Elements that the cut covers.
        covered: usize,
        /// Elements of the axis.
        size: usize,
    },
    /// A cut inside a block of the last axis.
    #[error("it is cut at element {at} of its last axis, inside a block of {} {dtype} elements", dtype.block_elems())]
    Block {
        /// The dtype.
        dtype: DType,
        /// Where.
        at: usize,
    },
    /// A tensor or a view of it whose bytes are not countable: overflow, or a row that ends inside a block.
    #[error("its bytes cannot be counted: the shape overflows or a row ends inside a block")]
    Uncountable,
    /// Memory of another size than a member's part.
    #[error("{member} has {found} bytes for its part, which takes {expected}")]
    PartBytes {
        /// The member.
        member: String,
        /// Bytes of its part.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A sum that was never made.
    #[error(
        "each member holds a partial sum of it, which has no meaning alone: reduce it in the graph first, for example by marking what is computed from it as the output"
    )]
    Partial,
    /// Bytes that no member has.
    #[error(
        "no member holds bytes {start}..{end}: the plan never uses them; load it for a plan that does"
    )]
    Unheld {
        /// First byte of the range asked for.
        start: usize,
        /// One past its last byte.
        end: usize,
    },
    /// A weight kept in a form of a member's own.
    #[error("it is kept {form}, which has no byte ranges: read the whole weight instead")]
    Packed {
        /// The form.
        form: &'static str,
    },
}
