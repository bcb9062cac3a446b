//! Results: memory that a kernel writes, each thread the part that its share of the work names.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Pod;
use ggrs_core::{DType, TensorDesc};

use super::{Grid, In};
use crate::formats::quantize_row;

/// A tensor that a kernel writes. Threads get at it through [`Share`](crate::part::Share) only.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    data: *mut u8,
    dtype: DType,
    grid: Grid,
}

// SAFETY: writing takes a share of the work, and no two threads have a share of the same elements.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Default for Out {
    fn default() -> Self {
        let grid = Grid::new(&TensorDesc::new(DType::F32, [0]));
        // SAFETY: an empty tensor reaches no element.
        unsafe { Self::new(std::ptr::dangling_mut::<u64>().cast(), DType::F32, grid) }
    }
}

impl Out {
    /// A view of the tensor whose first element is at `data`.
    ///
    /// # Safety
    /// `data` is aligned to the dtype's scalars; every element that `grid` reaches from there is writable as long as the
    /// view is used; no two indices reach the same element; nobody else accesses them while a kernel writes.
    pub(crate) const unsafe fn new(data: *mut u8, dtype: DType, grid: Grid) -> Self {
        Self { data, dtype, grid }
    }

    /// The element type.
    pub(crate) const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes and strides.
    pub(crate) const fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The sizes, outermost first.
    pub(crate) fn shape(&self) -> &[usize] {
        self.grid.shape()
    }

    /// Rows: the product of all sizes but the last.
    pub(crate) const fn n_rows(&self) -> usize {
        self.grid.n_rows()
    }

    /// Elements in a row.
    pub(crate) fn width(&self) -> usize {
        self.grid.width()
    }

    /// The same elements with axes in the order `axes`, so that what one unit of work writes are neighbouring rows.
    pub(crate) fn permute(&self, axes: &[usize]) -> Self {
        Self {
            grid: self.grid.permute(axes),
            ..*self
        }
    }

    /// Do both views have elements, and the same first one?
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.grid.n_elems() > 0 && other.grid.n_elems() > 0 && std::ptr::eq(self.data, other.data)
    }

    /// Bytes from the first element to the element at `offset`, which begins a block.
    fn byte_offset(&self, offset: usize) -> usize {
        offset / self.dtype.block_elems() * self.dtype.block_bytes()
    }

    fn holds<T>(&self) -> bool {
        let fits = size_of::<T>() == self.dtype.block_bytes()
            && !self.dtype.is_block()
            && self.grid.elem_step() == 1;
        debug_assert!(fits, "{} is not written as such scalars", self.dtype);
        fits
    }
}

/// Rows of an output that one thread may write.
pub(crate) struct Rows<'a> {
    out: &'a Out,
    rows: Range<usize>,
    /// Keeps the share of the work in use.
    share: PhantomData<&'a mut ()>,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// For 'a, no other `Rows`, `Blocks` or slice reaches these rows.
    pub(crate) const unsafe fn new(out: &'a Out, rows: Range<usize>) -> Self {
        Self {
            out,
            rows,
            share: PhantomData,
        }
    }

    /// Which rows.
    pub(crate) fn range(&self) -> Range<usize> {
        self.rows.start..self.rows.end.min(self.out.n_rows())
    }

    /// Where one of these rows begins; `None` for all others.
    fn start(&mut self, row: usize) -> Option<*mut u8> {
        let mine = self.range().contains(&row);
        debug_assert!(mine, "row {row} is outside the share {:?}", self.rows);
        let offset = mine.then(|| self.out.byte_offset(self.out.grid.row_offset(row)))?;
        // SAFETY: the row is one of the grid's, whose elements `Out::new` was promised.
        Some(unsafe { self.out.data.add(offset) })
    }

    /// A gapless row of scalars of the dtype's size; empty if it is not one of these rows.
    pub(crate) fn row<T: Pod>(&mut self, row: usize) -> &mut [T] {
        let width = self.out.width();
        match self.start(row) {
            // SAFETY: the row's elements are the thread's own (`new`), lie without gaps and have this size and alignment.
            Some(start) if self.out.holds::<T>() => unsafe {
                std::slice::from_raw_parts_mut(start.cast(), width)
            },
            _ => &mut [],
        }
    }

    /// The bytes of a gapless row; empty if it is not one of these rows.
    pub(crate) fn row_bytes(&mut self, row: usize) -> &mut [u8] {
        let n_bytes = self.out.dtype.row_bytes(self.out.width());
        debug_assert!(self.out.grid.elem_step() == 1, "the row is strided");
        match (self.start(row), n_bytes) {
            // SAFETY: the row's elements are the thread's own (`new`) and lie without gaps.
            (Some(start), Some(n)) if self.out.grid.elem_step() == 1 => unsafe {
                std::slice::from_raw_parts_mut(start, n)
            },
            _ => &mut [],
        }
    }

    /// The bytes of one scalar of a row of any strides; empty if it is not one of these rows.
    pub(crate) fn elem(&mut self, row: usize, i: usize) -> &mut [u8] {
        if i >= self.out.width() || self.out.dtype.is_block() {
            return &mut [];
        }
        let (step, n_bytes) = (self.out.grid.elem_step(), self.out.dtype.block_bytes());
        match self.start(row) {
            // SAFETY: the element is one of the row's, which are the thread's own (`new`).
            Some(start) => unsafe {
                std::slice::from_raw_parts_mut(start.add(i * step * n_bytes), n_bytes)
            },
            None => &mut [],
        }
    }

    /// Writes the bytes of a row of any strides.
    pub(crate) fn copy_from(&mut self, row: usize, from: &In, from_row: usize) {
        if self.out.grid.elem_step() == 1 {
            from.copy_row(from_row, self.row_bytes(row));
            return;
        }
        for i in 0..self.out.width() {
            let (from, to) = (from.elem(from_row, i), self.elem(row, i));
            if from.len() == to.len() {
                to.copy_from_slice(from);
            }
        }
    }

    /// Writes a row of any writable float or block dtype, of any strides, from F32.
    pub(crate) fn write(&mut self, row: usize, values: &[f32]) {
        let dtype = self.out.dtype;
        let written = if self.out.grid.elem_step() == 1 {
            quantize_row(dtype, values, self.row_bytes(row))
        } else {
            values.iter().enumerate().try_for_each(|(i, x)| {
                quantize_row(dtype, std::slice::from_ref(x), self.elem(row, i))
            })
        };
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

/// Blocks of an F32 output that one thread may write: bands of rows cut into blocks of columns.
pub(crate) struct Blocks<'a> {
    out: &'a Out,
    blocks: Range<usize>,
    band_rows: usize,
    block_width: usize,
    share: PhantomData<&'a mut ()>,
}

impl<'a> Blocks<'a> {
    /// # Safety
    /// For 'a, no other `Rows`, `Blocks` or slice reaches these blocks.
    pub(crate) const unsafe fn new(
        out: &'a Out,
        blocks: Range<usize>,
        band_rows: usize,
        block_width: usize,
    ) -> Self {
        Self {
            out,
            blocks,
            band_rows,
            block_width,
            share: PhantomData,
        }
    }

    /// How many blocks an output has.
    pub(crate) fn count(out: &Out, band_rows: usize, block_width: usize) -> usize {
        let bands = out.n_rows().checked_div(band_rows).unwrap_or(0);
        bands * out.width().div_ceil(block_width.max(1))
    }

    /// Band and columns of a block.
    pub(crate) fn place(&self, block: usize) -> (usize, Range<usize>) {
        let width = self.out.width();
        let per_band = width.div_ceil(self.block_width.max(1)).max(1);
        let start = block % per_band * self.block_width;
        (block / per_band, start..width.min(start + self.block_width))
    }

    /// The part of row `row` of the block's band that the block covers; empty if the block is not one of these.
    pub(crate) fn row(&mut self, block: usize, row: usize) -> &mut [f32] {
        let mine = self.blocks.contains(&block) && row < self.band_rows;
        debug_assert!(
            mine,
            "row {row} of block {block} is outside the share {:?}",
            self.blocks
        );
        let (band, columns) = self.place(block);
        if !mine {
            return &mut [];
        }
        // SAFETY: the block is the thread's own (`new`).
        unsafe { self.out.columns(band * self.band_rows + row, columns) }
    }
}

impl Out {
    /// Columns of a gapless row of an F32 tensor; empty if there is no such row.
    ///
    /// # Safety
    /// For 'a, nothing else reaches these elements.
    pub(super) unsafe fn columns<'a>(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        if row >= self.n_rows()
            || columns.end > self.width()
            || columns.is_empty()
            || !self.holds::<f32>()
        {
            return &mut [];
        }
        let offset = self.grid.row_offset(row) + columns.start;
        // SAFETY: the elements are some of the grid's, lie without gaps, are F32 and the caller's own.
        unsafe {
            std::slice::from_raw_parts_mut(self.data.cast::<f32>().add(offset), columns.len())
        }
    }

    /// Elements `range` of a tensor without any gaps; empty if it has some.
    ///
    /// # Safety
    /// For 'a, nothing else reaches these elements.
    pub(crate) unsafe fn elems<'a, T: Pod>(&self, range: Range<usize>) -> &'a mut [T] {
        let end = range.end.min(self.grid.n_elems());
        if range.start >= end || !self.holds::<T>() || !self.grid.is_contiguous() {
            return &mut [];
        }
        // SAFETY: the elements lie one behind the other from the first one on, and are the caller's own.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.data.cast::<T>().add(range.start),
                end - range.start,
            )
        }
    }
}
