//! Operands: memory that a kernel reads. It must not know ops or threads.

use bytemuck::Pod;
use ggrs_core::{DType, TensorDesc};
use half::{bf16, f16};

use super::Grid;
use crate::isa::Isa;
use crate::math;

/// A tensor that a kernel reads. Rows (the last axis) are numbered over the outer axes, the last of them fastest.
#[derive(Clone, Copy)]
pub(crate) struct In {
    data: *const u8,
    dtype: DType,
    grid: Grid,
    /// The whole packed weight, if it is kept so; strides mean nothing then.
    packed_bytes: Option<usize>,
}

// SAFETY: a view is read-only, and what it shows is not written while a kernel reads it (see `In::new`).
unsafe impl Send for In {}
// SAFETY: as above.
unsafe impl Sync for In {}

impl Default for In {
    fn default() -> Self {
        let grid = Grid::new(&TensorDesc::new(DType::F32, [0]));
        // SAFETY: an empty tensor reaches no element.
        unsafe { Self::new(std::ptr::dangling::<u64>().cast(), DType::F32, grid, None) }
    }
}

impl In {
    /// A view of the tensor whose first element is at `data`.
    ///
    /// # Safety
    /// `data` is aligned to the dtype's scalars; every element that `grid` reaches from there is readable as long as the
    /// view is used, and is written by nobody while it is read. With `packed_bytes`, that many bytes are.
    pub(crate) const unsafe fn new(
        data: *const u8,
        dtype: DType,
        grid: Grid,
        packed_bytes: Option<usize>,
    ) -> Self {
        Self {
            data,
            dtype,
            grid,
            packed_bytes,
        }
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

    /// The same elements with axes in the order `axes`; whole axes only, so that rows of blocks stay whole.
    pub(crate) fn permute(&self, axes: &[usize]) -> Self {
        Self {
            grid: self.grid.permute(axes),
            ..*self
        }
    }

    /// Repeated to `shape`, aligned at the last axis.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Self {
        Self {
            grid: self.grid.broadcast(shape),
            ..*self
        }
    }

    /// Bytes from the first element to the element at `offset`, which begins a block.
    fn byte_offset(&self, offset: usize) -> usize {
        offset / self.dtype.block_elems() * self.dtype.block_bytes()
    }

    fn bytes_at(&self, offset: usize) -> &[u8] {
        let Some(n_bytes) = self.dtype.row_bytes(self.width()) else {
            return &[];
        };
        debug_assert!(self.grid.elem_step() == 1, "the row is strided");
        if self.grid.elem_step() != 1 {
            return &[];
        }
        // SAFETY: `offset` is a row's, so the row's elements are among those that `new` was promised.
        unsafe { std::slice::from_raw_parts(self.data.add(self.byte_offset(offset)), n_bytes) }
    }

    /// The bytes of a gapless row; empty behind the last one.
    pub(crate) fn row_bytes(&self, row: usize) -> &[u8] {
        if row >= self.n_rows() {
            &[]
        } else {
            self.bytes_at(self.grid.row_offset(row))
        }
    }

    fn scalars<'a, T: Pod>(&self, bytes: &'a [u8]) -> &'a [T] {
        let fits = size_of::<T>() == self.dtype.block_bytes() && !self.dtype.is_block();
        debug_assert!(fits, "{} is not read as such scalars", self.dtype);
        if fits {
            bytemuck::try_cast_slice(bytes).unwrap_or_default()
        } else {
            &[]
        }
    }

    /// A gapless row of scalars of the dtype's size (`f32` for F32, `u16` or `half` types for F16 and BF16, `i32`,
    /// `i64`); empty behind the last one.
    pub(crate) fn row<T: Pod>(&self, row: usize) -> &[T] {
        self.scalars(self.row_bytes(row))
    }

    /// All scalars of a tensor without any gaps; empty if it has some.
    pub(crate) fn values<T: Pod>(&self) -> &[T] {
        self.scalars(self.values_bytes())
    }

    /// The bytes of a tensor without any gaps; empty if it has some.
    pub(crate) fn values_bytes(&self) -> &[u8] {
        match self.dtype.row_bytes(self.grid.n_elems()) {
            // SAFETY: all elements lie one behind the other, and `new` was promised them.
            Some(n_bytes) if self.grid.is_contiguous() => unsafe {
                std::slice::from_raw_parts(self.data, n_bytes)
            },
            _ => &[],
        }
    }

    /// Columns `start .. start + len` of every row; of scalars only, block formats have no columns.
    pub(crate) fn columns(&self, start: usize, len: usize) -> Self {
        if self.dtype.is_block() || start + len > self.width() {
            debug_assert!(
                false,
                "columns {start}..{} of {} {:?}",
                start + len,
                self.dtype,
                self.shape()
            );
            return Self::default();
        }
        let skip = if len == 0 {
            0
        } else {
            start * self.grid.elem_step() * self.dtype.block_bytes()
        };
        // SAFETY: the columns are the grid's.
        let data = unsafe { self.data.add(skip) };
        Self {
            data,
            grid: self.grid.with_width(len),
            ..*self
        }
    }

    /// Reads a row of any float or block dtype, of any strides, as F32; `out` has the row's width.
    pub(crate) fn read_row(&self, row: usize, out: &mut [f32]) {
        if self.grid.elem_step() == 1 {
            let read = math::read_row(Isa::best(), self.dtype, self.row_bytes(row), out);
            debug_assert!(read.is_ok(), "{read:?}");
            return;
        }
        for (i, x) in out.iter_mut().enumerate() {
            *x = match (self.dtype, self.elem(row, i)) {
                (DType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
                (DType::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
                (DType::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
                _ => f32::NAN,
            };
        }
    }

    /// Copies the bytes of a row of any strides; `out` has the row's bytes.
    pub(crate) fn copy_row(&self, row: usize, out: &mut [u8]) {
        let from = if self.grid.elem_step() == 1 {
            self.row_bytes(row)
        } else {
            &[]
        };
        if from.len() == out.len() {
            out.copy_from_slice(from);
            return;
        }
        for (i, to) in out.chunks_exact_mut(self.dtype.block_bytes()).enumerate() {
            let from = self.elem(row, i);
            if from.len() == to.len() {
                to.copy_from_slice(from);
            }
        }
    }

    /// A row as F32: where it lies if it is F32 without gaps, else read into `space`, which has the row's width.
    pub(crate) fn row_f32<'a>(&'a self, row: usize, space: &'a mut [f32]) -> &'a [f32] {
        if self.dtype == DType::F32 && self.grid.elem_step() == 1 {
            return self.row(row);
        }
        self.read_row(row, space);
        space
    }

    /// The bytes of one scalar; empty if there is none. Block formats have no elements to point at.
    pub(crate) fn elem(&self, row: usize, i: usize) -> &[u8] {
        if row >= self.n_rows() || i >= self.width() || self.dtype.is_block() {
            return &[];
        }
        let offset = self.grid.row_offset(row) + i * self.grid.elem_step();
        // SAFETY: the element is one of the grid's, which `new` was promised.
        unsafe {
            std::slice::from_raw_parts(
                self.data.add(self.byte_offset(offset)),
                self.dtype.block_bytes(),
            )
        }
    }

    /// One id of an I32 or I64 tensor of any strides; -1 if there is none.
    pub(crate) fn id(&self, row: usize, i: usize) -> i64 {
        match *self.elem(row, i) {
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => -1,
        }
    }

    /// The whole of a packed weight; empty if it is kept in the file's layout.
    pub(crate) fn packed(&self) -> &[u8] {
        // SAFETY: `new` was promised these bytes.
        self.packed_bytes
            .map_or(&[], |n| unsafe { std::slice::from_raw_parts(self.data, n) })
    }
}
