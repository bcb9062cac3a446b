//! Softmax over the last axis, with scale, mask and sinks.

use ggrs_core::error::Fault;
use ggrs_core::ops::Softmax;
use ggrs_core::{DType, Unsupported};

use super::float_rows::{cut, fill_row};
use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::math;
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

struct SoftmaxRows {
    x: In,
    /// Repeated to the shape of `x`.
    mask: Option<In>,
    /// One for each of the heads, the third axis from the end.
    sinks: Option<In>,
    out: Out,
    scale: f32,
    space: Table<f32>,
    isa: Isa,
}

impl Kernel for SoftmaxRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let [x_space, mask_space, out_space] = cut(part.own.row(&self.space), self.x.width());
        let sinks = self.sinks.as_ref().map(In::values::<f32>);
        let n_tokens = self.x.grid().from_end(1).max(1);
        let n_heads = self.x.grid().from_end(2).max(1);
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            let x = self.x.row_f32(row, x_space);
            let mask = self.mask.as_ref().map(|m| m.row_f32(row, mask_space));
            let head = row / n_tokens % n_heads;
            let sink = sinks.and_then(|sinks| sinks.get(head)).copied();
            fill_row(&mut rows, self.out.dtype(), row, out_space, |out| {
                math::softmax_row(self.isa, x, self.scale, mask, sink, out);
            });
        }
        Ok(())
    }
}

/// `softmax(scale * x + mask)`, with an optional sink for each head.
pub(crate) fn softmax(op: &Softmax, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (scale, isa) = (op.scale.0, request.isa());
    let (mask_at, sinks_at) = (1, 1 + usize::from(op.mask));
    let (masked, sunk) = (op.mask, op.sinks);
    let x = request.input(0);
    let copied = x.dtype != DType::F32 || (masked && request.input(mask_at).dtype != DType::F32);
    let width = if copied { x.shape.last().bound() } else { 0 };
    let mut scratch = ScratchLayout::new();
    let space = scratch.table(request.n_threads(), width.saturating_mul(3));
    Ok(Choice::new(
        "softmax/f32",
        "rows in F32",
        scratch,
        move |args| {
            let x = args.input(0);
            SoftmaxRows {
                x,
                mask: masked.then(|| args.input(mask_at).broadcast(x.shape())),
                sinks: sunk.then(|| args.input(sinks_at)),
                out: args.output(0),
                scale,
                space: args.table(space),
                isa,
            }
        },
    ))
}
