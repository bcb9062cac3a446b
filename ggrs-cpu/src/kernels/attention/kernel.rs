//! Attention over the threads: pieces straight into the result, or pieces of pieces that a second phase puts together.

use std::ops::Range;

use ggrs_core::error::Fault;

use super::space::{Sizes, Space};
use super::unit::{Operands, Piece, Unit};
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::math;
use crate::part::Part;
use crate::view::{In, Out, Table};

/// How the work is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Tokens of a piece.
    pub(super) tokens: usize,
    /// Shares of a piece's keys; none if pieces write the result themselves.
    pub(super) splits: Option<usize>,
}

/// Attention over a step's memory.
pub(super) struct AttentionKernel {
    pub(super) operands: Operands,
    pub(super) sinks: Option<In>,
    pub(super) out: Out,
    pub(super) n_batches: usize,
    pub(super) sizes: Sizes,
    pub(super) cut: Cut,
    pub(super) space: Table<f32>,
    /// For every piece and share a row: a group of `2 + value_width` values (maximum, total, sums) for each of its rows.
    pub(super) partial: Table<f32>,
    pub(super) isa: Isa,
}

impl AttentionKernel {
    fn sink(&self, head: usize) -> f32 {
        let sinks = self.sinks.as_ref().map(In::values::<f32>);
        let sink = sinks.and_then(|sinks| sinks.get(head));
        sink.copied().unwrap_or(f32::NEG_INFINITY)
    }

    fn n_blocks(&self) -> usize {
        self.operands.n_tokens.div_ceil(self.cut.tokens)
    }

    /// Whole pieces: some tokens, all heads.
    fn run_whole(&self, part: &mut Part<'_>) -> Result<(), Fault> {
        let o = &self.operands;
        let mut space = Space::new(&self.sizes, part.own.row(&self.space));
        let mut runs = part
            .work
            .chunks(self.n_batches * o.n_tokens, self.cut.tokens);
        while let Some(mut share) = runs.next() {
            let units = share.units();
            let mut out = share.rows(&self.out, o.n_heads);
            let mut start = units.start;
            while start < units.end {
                // A run of tokens may reach into the next batch.
                let batch = start / o.n_tokens;
                let end = units.end.min((batch + 1) * o.n_tokens);
                let tokens = start - batch * o.n_tokens..end - batch * o.n_tokens;
                for kv_head in 0..o.n_kv_heads {
                    let piece = Piece {
                        batch,
                        kv_head,
                        tokens: tokens.clone(),
                        split: (0, 1),
                    };
                    self.unit(piece).run(&mut space)?;
                    let sums = space.sums.chunks_exact(self.sizes.value_stride());
                    let rows = sums.zip(space.max.iter().zip(&*space.total));
                    let targets =
                        (start..end).flat_map(|t| self.heads(kv_head).map(move |h| (t, h)));
                    for ((token, head), (sums, (max, total))) in targets.zip(rows) {
                        let sink = self.sink(head);
                        let largest = max.max(sink);
                        let total = total * weight(*max, largest) + weight(sink, largest);
                        let factor = share_of(weight(*max, largest), total);
                        let row: &mut [f32] = out.row(token * o.n_heads + head);
                        math::scale(self.isa, factor, 0.0, sums, row);
                    }
                }
                start = end;
            }
        }
        Ok(())
    }

    fn heads(&self, kv_head: usize) -> Range<usize> {
        kv_head * self.sizes.group..(kv_head + 1) * self.sizes.group
    }

    fn unit(&self, piece: Piece) -> Unit<'_> {
        Unit::new(&self.operands, &self.sizes, piece, self.isa)
    }

    /// Shares of pieces, left in the table of partial results.
    fn run_splits(&self, n_splits: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let o = &self.operands;
        let mut space = Space::new(&self.sizes, part.own.row(&self.space));
        let n_blocks = self.n_blocks();
        let n = self.n_batches * o.n_kv_heads * n_blocks * n_splits;
        let mut runs = part.work.chunks(n, 1);
        while let Some(mut share) = runs.next() {
            let unit = share.units().start;
            let (at, split) = (unit / n_splits, unit % n_splits);
            let (at, block) = (at / n_blocks, at % n_blocks);
            let start = block * self.cut.tokens;
            let piece = Piece {
                batch: at / o.n_kv_heads,
                kv_head: at % o.n_kv_heads,
                tokens: start..o.n_tokens.min(start + self.cut.tokens),
                split: (split, n_splits),
            };
            self.unit(piece).run(&mut space)?;
            let sums = space.sums.chunks_exact(self.sizes.value_stride());
            let rows = sums.zip(space.max.iter().zip(&*space.total));
            let partial = share.table(&self.partial, 1);
            for (to, (sums, (max, total))) in
                partial.chunks_exact_mut(self.partial_width()).zip(rows)
            {
                if let [to_max, to_total, to_sums @ ..] = to {
                    (*to_max, *to_total) = (*max, *total);
                    math::scale(self.isa, 1.0, 0.0, sums, to_sums);
                }
            }
        }
        Ok(())
    }

    fn partial_width(&self) -> usize {
        2 + self.sizes.value_width
    }

    /// Puts the shares of every row together.
    fn combine(&self, n_splits: usize, part: &mut Part<'_>) {
        let o = &self.operands;
        let (group, n_blocks) = (self.sizes.group, self.n_blocks());
        let table = self.partial.read();
        let mut share = part.work.even(self.out.n_rows());
        let mut out = share.rows(&self.out, 1);
        for row in out.range() {
            let (at, head) = (row / o.n_heads, row % o.n_heads);
            let (batch, token) = (at / o.n_tokens, at % o.n_tokens);
            let piece = (batch * o.n_kv_heads + head / group) * n_blocks + token / self.cut.tokens;
            let in_piece = token % self.cut.tokens * group + head % group;
            let shares = || {
                (0..n_splits).filter_map(|split| {
                    let start = (piece * n_splits + split) * self.partial.width()
                        + in_piece * self.partial_width();
                    match table.get(start..start + self.partial_width())? {
                        [max, total, sums @ ..] => Some((*max, *total, sums)),
                        _ => None,
                    }
                })
            };
            let sink = self.sink(head);
            let largest = shares().fold(sink, |largest, (max, ..)| largest.max(max));
            let total = shares().fold(weight(sink, largest), |sum, (max, total, _)| {
                sum + total * weight(max, largest)
            });
            let out: &mut [f32] = out.row(row);
            out.fill(0.0);
            for (max, _, sums) in shares() {
                let factor = share_of(weight(max, largest), total);
                math::axpy(self.isa, factor, sums, out);
            }
        }
    }
}

/// `e^(score - largest)`, 0 for a score of -inf.
fn weight(score: f32, largest: f32) -> f32 {
    if score == f32::NEG_INFINITY {
        0.0
    } else {
        (score - largest).exp()
    }
}

/// `weight / total`; 0 of nothing.
fn share_of(weight: f32, total: f32) -> f32 {
    if total == 0.0 { 0.0 } else { weight / total }
}

impl Kernel for AttentionKernel {
    fn phases(&self) -> usize {
        if self.cut.splits.is_some() { 2 } else { 1 }
    }

    fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        match (self.cut.splits, phase) {
            (None, _) => self.run_whole(part),
            (Some(n), 0) => self.run_splits(n, part),
            (Some(n), _) => {
                self.combine(n, part);
                Ok(())
            }
        }
    }
}
