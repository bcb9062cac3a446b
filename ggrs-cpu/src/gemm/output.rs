//! Where a product reads and writes: which input row goes to which output row, and the output's memory.

use std::marker::PhantomData;

use super::GemmError;
use crate::pack::TILE_ROWS;

/// One column of a routed product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The row of the inputs that is multiplied.
    pub input: u32,
    /// The row of the output that receives the products.
    pub output: u32,
}

/// The columns of a product: which rows of the inputs are multiplied, and where the products go.
#[derive(Clone, Copy, Debug)]
pub enum Columns<'a> {
    /// Input rows `start .. start + n`, to the output rows of the same numbers.
    Dense {
        /// The first row.
        start: usize,
        /// How many rows.
        n: usize,
    },
    /// Any rows in any order: the tokens of one expert. No output row may be named twice by concurrent products.
    Routed(&'a [Routed]),
}

impl Columns<'_> {
    /// How many columns.
    pub const fn len(&self) -> usize {
        match self {
            Self::Dense { n, .. } => *n,
            Self::Routed(list) => list.len(),
        }
    }

    /// Are there none?
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Input and output row of a column; `None` behind the last one.
    pub(super) fn get(&self, column: usize) -> Option<(usize, usize)> {
        match self {
            Self::Dense { start, n } => {
                let row = start.checked_add(column)?;
                (column < *n).then_some((row, row))
            }
            Self::Routed(list) => list
                .get(column)
                .map(|c| (c.input as usize, c.output as usize)),
        }
    }
}

/// Output rows: row `i` is `width` F32 values that start at `i * stride`; value `j` belongs to row `j` of the weights.
#[derive(Debug)]
pub struct Output<'a> {
    start: *mut f32,
    n_rows: usize,
    width: usize,
    stride: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: an output is an exclusive borrow of the values that it is used to write (see `Output::share`).
unsafe impl Send for Output<'_> {}

// SAFETY: a shared reference reads sizes only; writing takes an exclusive one.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Borrows `n_rows` rows of `width` values, `stride` apart.
    ///
    /// # Errors
    /// The rows do not fit the slice, or overlap.
    pub fn new(
        values: &'a mut [f32],
        n_rows: usize,
        width: usize,
        stride: usize,
    ) -> Result<Self, GemmError> {
        let len = values.len();
        let end = n_rows
            .saturating_sub(1)
            .checked_mul(stride)
            .and_then(|last| last.checked_add(width));
        if n_rows > 0 && (stride < width || end.is_none_or(|end| end > len)) {
            return Err(GemmError::OutputLength {
                n_rows,
                width,
                stride,
                len,
            });
        }
        // SAFETY: the slice is borrowed exclusively for 'a and was just seen to hold the rows.
        Ok(unsafe { Self::from_raw(values.as_mut_ptr(), n_rows, width, stride) })
    }

    /// The same from a pointer, for memory that several threads write at once.
    ///
    /// # Safety
    /// For 'a, all rows are writable, `stride >= width`, and no value is accessed otherwise while a product writes it.
    pub const unsafe fn from_raw(
        start: *mut f32,
        n_rows: usize,
        width: usize,
        stride: usize,
    ) -> Self {
        Self {
            start,
            n_rows,
            width,
            stride,
            memory: PhantomData,
        }
    }

    /// A second handle to the same memory, for another thread.
    ///
    /// # Safety
    /// No two products may write the same value at the same time: they take different tiles, or different output rows.
    pub const unsafe fn share(&self) -> Self {
        // SAFETY: the caller's promise stands for the exclusive access.
        unsafe { Self::from_raw(self.start, self.n_rows, self.width, self.stride) }
    }

    /// Output rows.
    pub const fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Values in a row.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Writes a tile's values to `row`, from `at` on; what would lie at `end` or behind it is left out.
    #[inline]
    pub(super) fn write(&mut self, row: usize, at: usize, values: &[f32; TILE_ROWS], end: usize) {
        let end = end.min(self.width);
        if row >= self.n_rows || at >= end {
            return;
        }
        // SAFETY: the row is one of `n_rows`, the range is inside its `width`, which this borrow may write.
        unsafe {
            let place = self.start.add(row * self.stride + at);
            if end - at >= TILE_ROWS {
                place.cast::<[f32; TILE_ROWS]>().write_unaligned(*values);
            } else {
                place.copy_from_nonoverlapping(values.as_ptr(), end - at);
            }
        }
    }
}
