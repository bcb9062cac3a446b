//! Rows of float tensors as F32: where they lie, or by way of a thread's working memory.

use ggrs_core::{DType, TensorDesc};

use crate::kernel::Request;
use crate::view::{Rows, ScratchLayout, Slot};

/// A row per thread with room for `n` rows of `desc`, none if they are F32 and can be used where they lie.
pub(super) fn row_space(
    scratch: &mut ScratchLayout,
    request: &Request<'_>,
    desc: &TensorDesc,
    n: usize,
) -> Slot<f32> {
    let width = if desc.dtype == DType::F32 {
        0
    } else {
        desc.shape.last().bound().saturating_mul(n)
    };
    scratch.table(request.n_threads(), width)
}

/// Lets `fill` write a row as F32: in place if the tensor is F32, else in `space`, from where it is encoded.
pub(super) fn fill_row(
    rows: &mut Rows<'_>,
    dtype: DType,
    row: usize,
    space: &mut [f32],
    fill: impl FnOnce(&mut [f32]),
) {
    if dtype == DType::F32 {
        fill(rows.row(row));
    } else {
        fill(space);
        rows.write(row, space);
    }
}

/// Cuts working memory in `N` rows of `width`; empty ones if it has no room for them.
pub(super) fn cut<const N: usize>(space: &mut [f32], width: usize) -> [&mut [f32]; N] {
    let mut chunks = space.chunks_exact_mut(width.max(1));
    std::array::from_fn(|_| chunks.next().unwrap_or_default())
}
