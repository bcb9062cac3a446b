//! The bytes of many rows of one tensor, found faster than one by one through its strides.

use ggrs_core::DType;

use crate::view::In;

/// The gapless rows of a tensor.
#[derive(Clone, Copy)]
pub(crate) struct RowBytes<'a> {
    view: &'a In,
    /// All rows, if they lie one behind the other: then a row is found without its strides.
    whole: &'a [u8],
    row_bytes: usize,
}

impl<'a> RowBytes<'a> {
    /// The rows of a tensor.
    pub(crate) fn new(view: &'a In) -> Self {
        let gapless = view.grid().is_contiguous();
        Self {
            view,
            whole: if gapless { view.values_bytes() } else { &[] },
            row_bytes: view.dtype().row_bytes(view.width()).unwrap_or(0),
        }
    }

    /// Their element type.
    pub(crate) const fn dtype(&self) -> DType {
        self.view.dtype()
    }

    /// The bytes of a row; empty behind the last one.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        if self.whole.is_empty() {
            return self.view.row_bytes(row);
        }
        let start = row * self.row_bytes;
        self.whole
            .get(start..start + self.row_bytes)
            .unwrap_or_default()
    }
}
