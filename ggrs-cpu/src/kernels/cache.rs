//! Writing in place: rows by id, a tensor over another, keys and values into a paged cache.
//!
//! Threads share the written tensor's rows, not the rows to write: so two writes of one place have their order.

use ggrs_core::error::Fault;
use ggrs_core::ops::CacheWrite;
use ggrs_core::{DType, TensorDesc, Unsupported};

use crate::kernel::{Choice, Kernel, Request};
use crate::part::Part;
use crate::view::{In, Out, Rows, ScratchLayout, Slot, Table};

/// A row of F32 for each thread, if rows change their dtype on the way.
fn space(request: &Request<'_>, dst: &TensorDesc, src: &TensorDesc) -> (ScratchLayout, Slot<f32>) {
    let mut scratch = ScratchLayout::new();
    let width = if dst.dtype == src.dtype {
        0
    } else {
        dst.shape.last().bound()
    };
    let slot = scratch.table(request.n_threads(), width);
    (scratch, slot)
}

const fn variant(same: bool, names: [&'static str; 2]) -> (&'static str, &'static str) {
    if same {
        (names[0], "rows as they are")
    } else {
        (
            names[1],
            "rows are read as F32 and written in the target's dtype",
        )
    }
}

/// Writes one row, converted if the dtypes differ.
fn put(rows: &mut Rows<'_>, row: usize, dtype: DType, src: &In, from: usize, space: &mut [f32]) {
    if src.dtype() == dtype {
        rows.copy_from(row, src, from);
    } else {
        rows.write(row, src.row_f32(from, space));
    }
}

/// `dst = src`.
pub(crate) fn store(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (dst, src) = (request.input(0), request.input(1));
    let (scratch, slot) = space(request, &dst, &src);
    let (name, reason) = variant(dst.dtype == src.dtype, ["store/copy", "store/converted"]);
    Ok(Choice::new(name, reason, scratch, move |args| StoreRows {
        dst: args.output(0),
        src: args.input(1),
        space: args.table(slot),
    }))
}

struct StoreRows {
    dst: Out,
    src: In,
    space: Table<f32>,
}

impl Kernel for StoreRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.dst.n_rows());
        let mut rows = share.rows(&self.dst, 1);
        let space = part.own.row(&self.space);
        for row in rows.range() {
            put(&mut rows, row, self.dst.dtype(), &self.src, row, space);
        }
        Ok(())
    }
}

/// `dst[.., ids[i], :] = rows[.., i, :]`.
pub(crate) fn set_rows(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (dst, src) = (request.input(0), request.input(1));
    let (scratch, slot) = space(request, &dst, &src);
    let (name, reason) = variant(
        dst.dtype == src.dtype,
        ["set_rows/copy", "set_rows/converted"],
    );
    Ok(Choice::new(name, reason, scratch, move |args| {
        let (dst, src, ids) = (args.output(0), args.input(1), args.input(2));
        // Ids may be shared by the batches.
        let lead = src.shape().len().saturating_sub(1);
        let ids = ids.broadcast(src.shape().get(..lead).unwrap_or_default());
        SetRows {
            dst,
            src,
            ids,
            space: args.table(slot),
        }
    }))
}

struct SetRows {
    dst: Out,
    src: In,
    ids: In,
    space: Table<f32>,
}

impl Kernel for SetRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let bound = self.dst.grid().from_end(1);
        let n_ids = self.ids.width().max(1);
        let mut share = part.work.even(self.dst.n_rows());
        let mut rows = share.rows(&self.dst, 1);
        let space = part.own.row(&self.space);
        for from in 0..self.src.n_rows() {
            let batch = from / n_ids;
            let index = self.ids.id(batch, from % n_ids);
            let Some(id) = usize::try_from(index).ok().filter(|id| *id < bound) else {
                return Err(Fault::IndexOutOfRange {
                    role: "ids",
                    row: from,
                    index,
                    bound,
                });
            };
            let row = batch * bound + id;
            if rows.range().contains(&row) {
                put(&mut rows, row, self.dst.dtype(), &self.src, from, space);
            }
        }
        Ok(())
    }
}

/// Rows of tokens to the cells of a paged cache.
pub(crate) fn cache_write(op: &CacheWrite, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (cache, src) = (request.input(0), request.input(1));
    let (scratch, slot) = space(request, &cache, &src);
    let (name, reason) = variant(
        cache.dtype == src.dtype,
        ["cache_write/copy", "cache_write/converted"],
    );
    let block = op.block;
    Ok(Choice::new(name, reason, scratch, move |args| {
        let (cache, src) = (args.output(0), args.input(1));
        // Work is shared by the axis behind the cells (heads): the cells of a step are neighbours.
        let rank = cache.shape().len();
        let axes: Vec<usize> = if rank > 2 {
            [1, 0].into_iter().chain(2..rank).collect()
        } else {
            (0..rank).collect()
        };
        let (n_cells, n_units) = match *cache.shape() {
            [cells, heads, _, ..] => (cells, heads),
            [cells, ..] => (cells, 1),
            [] => (0, 0),
        };
        let cache = cache.permute(&axes);
        WriteCells {
            n_cells,
            n_units,
            cell_rows: cache.n_rows().checked_div(n_cells * n_units).unwrap_or(0),
            cache,
            src: src.permute(&axes),
            positions: args.input(2),
            slots: args.input(3),
            table: args.input(4),
            block,
            space: args.table(slot),
        }
    }))
}

/// The cache is `[heads, cells, ..]`, the tokens are `[heads, tokens, ..]`; without heads they are as they came.
struct WriteCells {
    cache: Out,
    src: In,
    positions: In,
    slots: In,
    table: In,
    block: usize,
    n_cells: usize,
    n_units: usize,
    /// Rows of a cell in one unit.
    cell_rows: usize,
    space: Table<f32>,
}

impl WriteCells {
    /// The cell of a token; `None` for padding.
    fn cell(&self, token: usize) -> Result<Option<usize>, Fault> {
        let fault = |role, row, index, bound| {
            Err(Fault::IndexOutOfRange {
                role,
                row,
                index,
                bound,
            })
        };
        let slot = self.slots.id(0, token);
        if slot < 0 {
            return Ok(None);
        }
        let (n_slots, n_blocks) = (self.table.grid().from_end(1), self.table.width());
        let Some(slot) = usize::try_from(slot).ok().filter(|s| *s < n_slots) else {
            return fault("slots", token, slot, n_slots);
        };
        let (index, bound) = (
            self.positions.id(0, token),
            n_blocks.saturating_mul(self.block),
        );
        let Some(position) = usize::try_from(index).ok().filter(|p| *p < bound) else {
            return fault("positions", token, index, bound);
        };
        let index = self.table.id(slot, position / self.block);
        let cell = usize::try_from(index).ok().and_then(|b| {
            b.checked_mul(self.block)?
                .checked_add(position % self.block)
        });
        match cell {
            Some(cell) if cell < self.n_cells => Ok(Some(cell)),
            _ => fault("page table", slot, index, self.n_cells / self.block),
        }
    }
}

impl Kernel for WriteCells {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let n_tokens = self.slots.width();
        let mut share = part.work.even(self.n_units);
        let units = share.units();
        let mut rows = share.rows(&self.cache, self.n_cells * self.cell_rows);
        let space = part.own.row(&self.space);
        for token in 0..n_tokens {
            let Some(cell) = self.cell(token)? else {
                continue;
            };
            for unit in units.clone() {
                let (to, from) = (unit * self.n_cells + cell, unit * n_tokens + token);
                for i in 0..self.cell_rows {
                    let (to, from) = (to * self.cell_rows + i, from * self.cell_rows + i);
                    put(&mut rows, to, self.cache.dtype(), &self.src, from, space);
                }
            }
        }
        Ok(())
    }
}
