//! Sums and means along an axis, running sums along the last. Totals are kept in F64.

use ggrs_core::error::Fault;
use ggrs_core::ops::{OpSpec, Reduce, ReduceKind};
use ggrs_core::{DType, Unsupported};

use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::math;
use crate::part::Part;
use crate::view::{Blocks, In, Out, ScratchLayout, Table};

/// Columns that are summed together when the axis is not the last.
const COLUMNS: usize = 128;

/// Sum or mean along an axis.
pub(crate) fn reduce(op: &Reduce, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let x = request.input(0);
    let rank = x.rank();
    let (axis, isa) = (op.axis, request.isa());
    let size = x.shape.sizes().get(axis).copied().unwrap_or(1);
    let factor = match op.kind {
        ReduceKind::Sum => 1.0,
        ReduceKind::Mean => 1.0 / size as f64,
    };
    let width = x.shape.last().bound();
    let gapless = x.layout.contiguous_from(&x.shape, rank.saturating_sub(1));
    let mut scratch = ScratchLayout::new();
    let space = scratch.table(request.n_threads(), if gapless { 0 } else { width });
    if axis + 1 == rank {
        return Ok(Choice::new(
            format!("{}/row", op.stem()),
            "along the rows",
            scratch,
            move |args| SumRow {
                x: args.input(0),
                out: args.output(0),
                space: args.table(space),
                factor,
                isa,
            },
        ));
    }
    Ok(Choice::new(
        format!("{}/across", op.stem()),
        "across the rows",
        scratch,
        move |args| {
            let x = args.input(0);
            SumAcross {
                inner_rows: x
                    .shape()
                    .get(axis + 1..rank.saturating_sub(1))
                    .unwrap_or_default()
                    .iter()
                    .product(),
                size,
                out: args.output(0),
                space: args.table(space),
                x,
                factor,
            }
        },
    ))
}

struct SumRow {
    x: In,
    out: Out,
    space: Table<f32>,
    factor: f64,
    isa: Isa,
}

impl Kernel for SumRow {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        let space = part.own.row(&self.space);
        for row in rows.range() {
            let total = math::sum(self.isa, self.x.row_f32(row, space));
            rows.write(row, &[(total * self.factor) as f32]);
        }
        Ok(())
    }
}

/// Output row `(outer, inner)` is the sum of the rows `(outer, i, inner)`.
struct SumAcross {
    x: In,
    out: Out,
    space: Table<f32>,
    size: usize,
    inner_rows: usize,
    factor: f64,
}

impl Kernel for SumAcross {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(Blocks::count(&self.out, 1, COLUMNS));
        let units = share.units();
        let mut blocks = share.blocks(&self.out, 1, COLUMNS);
        let space = part.own.row(&self.space);
        for block in units {
            let (row, columns) = blocks.place(block);
            let (outer, inner) = (row / self.inner_rows, row % self.inner_rows);
            let mut totals = [0.0_f64; COLUMNS];
            for i in 0..self.size {
                let from = (outer * self.size + i) * self.inner_rows + inner;
                let x = self
                    .x
                    .row_f32(from, space)
                    .get(columns.clone())
                    .unwrap_or_default();
                for (total, x) in totals.iter_mut().zip(x) {
                    *total += f64::from(*x);
                }
            }
            for (out, total) in blocks.row(block, 0).iter_mut().zip(&totals) {
                *out = (total * self.factor) as f32;
            }
        }
        Ok(())
    }
}

/// Running sums along the rows.
pub(crate) fn cumsum(request: &Request<'_>) -> Result<Choice, Unsupported> {
    debug_assert!(
        request.input(0).dtype == DType::F32,
        "inference lets only F32 in"
    );
    Ok(Choice::new(
        "cumsum/row",
        "along the rows",
        ScratchLayout::new(),
        |args| CumSum {
            x: args.input(0),
            out: args.output(0),
        },
    ))
}

struct CumSum {
    x: In,
    out: Out,
}

impl Kernel for CumSum {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            let mut total = 0.0_f64;
            for (out, x) in rows.row::<f32>(row).iter_mut().zip(self.x.row::<f32>(row)) {
                total += f64::from(*x);
                *out = total as f32;
            }
        }
        Ok(())
    }
}
