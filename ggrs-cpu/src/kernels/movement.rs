//! Moving elements: gapless copies, casts, joins, rows by id.

use ggrs_core::error::Fault;
use ggrs_core::ops::{self, Concat};
use ggrs_core::{DType, Unsupported};

use super::held::Held;
use super::row_map::row_map;
use crate::kernel::{Choice, Kernel, Request};
use crate::pack;
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

/// A gapless copy of any view.
pub(crate) fn contiguous(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(Choice::new(
        "contiguous/rows",
        "rows as they are",
        ScratchLayout::new(),
        |args| Copy {
            x: args.input(0),
            out: args.output(0),
        },
    ))
}

/// A copy in another dtype.
pub(crate) fn cast(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (from, to) = (request.input(0).dtype, request.output(0).dtype);
    if from == to {
        return contiguous(request);
    }
    if to.is_int() {
        return Ok(Choice::new(
            "cast/integers",
            "integers by value",
            ScratchLayout::new(),
            |args| CastInts {
                x: args.input(0),
                out: args.output(0),
            },
        ));
    }
    Ok(row_map("cast", request, |[x], out: &mut [f32]| {
        if x.len() == out.len() {
            out.copy_from_slice(x);
        }
    }))
}

/// Rows copied byte by byte.
pub(crate) struct Copy {
    pub(crate) x: In,
    pub(crate) out: Out,
}

impl Kernel for Copy {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            rows.copy_from(row, &self.x, row);
        }
        Ok(())
    }
}

/// I32 to I64, and back: the low half.
struct CastInts {
    x: In,
    out: Out,
}

impl Kernel for CastInts {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            for i in 0..self.out.width() {
                let bytes = self.x.id(row, i).to_le_bytes();
                let to = rows.elem(row, i);
                to.copy_from_slice(bytes.get(..to.len()).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// Tensors joined along an axis.
pub(crate) fn concat(op: &Concat, _: &Request<'_>) -> Result<Choice, Unsupported> {
    let axis = op.axis;
    Ok(Choice::new(
        "concat/rows",
        "rows as they are",
        ScratchLayout::new(),
        move |args| {
            let out = args.output(0);
            let outer = out.shape().len().saturating_sub(1);
            Join {
                inputs: args.inputs.to_vec(),
                // Rows of the output for each step along the axis; `None` if the axis is inside the rows.
                inner_rows: (axis < outer).then(|| {
                    out.shape()
                        .get(axis + 1..outer)
                        .unwrap_or_default()
                        .iter()
                        .product()
                }),
                axis,
                out,
            }
        },
    ))
}

struct Join {
    inputs: Vec<In>,
    out: Out,
    axis: usize,
    inner_rows: Option<usize>,
}

impl Join {
    /// The operand and its row that an output row copies.
    fn source(&self, row: usize, inner: usize) -> Option<(&In, usize)> {
        let size = self.out.shape().get(self.axis).copied().unwrap_or(1);
        let (outer, mut at, rest) = (row / inner / size, row / inner % size, row % inner);
        for x in &self.inputs {
            let n = x.shape().get(self.axis).copied().unwrap_or(0);
            if at < n {
                return Some((x, (outer * n + at) * inner + rest));
            }
            at -= n;
        }
        None
    }
}

impl Kernel for Join {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            if let Some(inner) = self.inner_rows {
                if let Some((x, from)) = self.source(row, inner) {
                    rows.copy_from(row, x, from);
                }
                continue;
            }
            let mut target = rows.row_bytes(row);
            for x in &self.inputs {
                let n_bytes = x
                    .dtype()
                    .row_bytes(x.width())
                    .unwrap_or(0)
                    .min(target.len());
                let (mine, rest) = target.split_at_mut(n_bytes);
                x.copy_row(row, mine);
                target = rest;
            }
        }
        Ok(())
    }
}

/// Rows picked by id; those that are not held here are zeros.
pub(crate) fn get_rows(op: &ops::GetRows, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let window = op.window;
    let (table, n_threads) = (request.input(0), request.n_threads());
    let row_bytes = table
        .dtype
        .row_bytes(table.shape.last().bound())
        .unwrap_or(0);
    let is_packed = request.is_packed(0);
    let mut scratch = ScratchLayout::new();
    let space = scratch.table::<u8>(n_threads, if is_packed { row_bytes } else { 0 });
    let (name, reason) = match (table.dtype.is_int(), is_packed) {
        (true, _) => ("get_rows/integers", "integers as they are"),
        (false, false) => ("get_rows/native", "rows read as F32"),
        (false, true) => (
            "get_rows/packed",
            "rows taken out of their tiles and read as F32",
        ),
    };
    Ok(Choice::new(name, reason, scratch, move |args| {
        let (table, ids, out) = (args.input(0), args.input(1), args.output(0));
        // Ids may be shared by the table's batches.
        let lead = out.shape().len().saturating_sub(1);
        let ids = ids.broadcast(out.shape().get(..lead).unwrap_or_default());
        GetRows {
            held: Held::new(window, table.grid().from_end(1)),
            table,
            ids,
            out,
            space: args.table(space),
        }
    }))
}

struct GetRows {
    table: In,
    ids: In,
    out: Out,
    held: Held,
    /// For each thread, the bytes of a row.
    space: Table<u8>,
}

impl GetRows {
    /// Reads a row of a packed table as F32.
    fn read_packed(&self, batch: usize, id: usize, bytes: &mut [u8], out: &mut [f32]) {
        let (dtype, n_rows, k) = (
            self.table.dtype(),
            self.table.grid().from_end(1),
            self.table.width(),
        );
        let matrix = pack::packed_bytes(dtype, n_rows, k).unwrap_or(0);
        let packed = self
            .table
            .packed()
            .get(batch * matrix..(batch + 1) * matrix)
            .unwrap_or_default();
        let read = pack::unpack(dtype, (n_rows, k), packed, id..id + 1, bytes);
        debug_assert!(read.is_ok(), "{read:?}");
        let read = crate::formats::dequantize_row(dtype, bytes, out);
        debug_assert!(read.is_ok(), "{read:?}");
    }
}

impl Kernel for GetRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let n_ids = self.ids.width().max(1);
        let is_packed = !self.table.packed().is_empty();
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        let space = part.own.row(&self.space);
        for row in rows.range() {
            let batch = row / n_ids;
            let index = self.ids.id(batch, row % n_ids);
            let Some(id) = self.held.place(index, "ids", row)? else {
                rows.row_bytes(row).fill(0);
                continue;
            };
            let from = batch * self.held.n() + id;
            if is_packed {
                self.read_packed(batch, id, space, rows.row(row));
            } else if self.out.dtype() == DType::F32 {
                self.table.read_row(from, rows.row(row));
            } else {
                rows.copy_from(row, &self.table, from);
            }
        }
        Ok(())
    }
}
