//! Causal depthwise convolution: blocks of channels by blocks of tokens, turned so that channels are the lanes.

use std::ops::Range;

use ggrs_core::error::Fault;
use ggrs_core::{DType, Unsupported};

use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::kernels::row_bytes::RowBytes;
use crate::math::{self, Gathered, Lanes, Task};
use crate::part::Part;
use crate::view::{Blocks, In, Out, ScratchLayout, Table};

/// Channels of a unit of work.
const CHANNELS: usize = 64;

/// Tokens that are turned at a time.
const TOKENS: usize = 64;

/// `out[c] = sum_j columns[j][c] * weights[j][c]`; rows of columns and weights are `CHANNELS` long.
struct Taps<'a> {
    columns: &'a [f32],
    weights: &'a [f32],
    out: &'a mut [f32],
}

impl Task for Taps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let taps =
            || (self.columns.chunks_exact(CHANNELS)).zip(self.weights.chunks_exact(CHANNELS));
        for (i, out) in self.out.chunks_mut(L::N).enumerate() {
            let mut sum = lanes.splat(0.0);
            for (column, weights) in taps() {
                let vector = i * L::N..(i + 1) * L::N;
                let (x, w) = (column.get(vector.clone()), weights.get(vector));
                let (x, w) = (x.unwrap_or_default(), w.unwrap_or_default());
                sum = lanes.mul_add(lanes.load(x), lanes.load(w), sum);
            }
            lanes.store(sum, out);
        }
    }
}

struct SsmConv {
    x: In,
    weights: In,
    out: Out,
    n_taps: usize,
    space: Table<f32>,
    isa: Isa,
}

/// Elements of a block of `x`.
const fn block_elems(n_taps: usize) -> usize {
    CHANNELS.saturating_mul((TOKENS - 1).saturating_add(n_taps))
}

impl SsmConv {
    /// Turns columns `columns` of neighbouring rows of an F32 tensor, so that the rows' elements lie side by side.
    fn turn(&self, from: RowBytes<'_>, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let (start, end) = (
            size_of::<f32>() * columns.start,
            size_of::<f32>() * columns.end,
        );
        let row = |i| {
            let bytes = from.row(rows.start + i).get(start..end);
            bytes.unwrap_or_default()
        };
        let to = Gathered {
            n_rows: rows.len(),
            width: columns.len(),
            out,
            stride: CHANNELS,
        };
        math::gather_turned(self.isa, DType::F32, row, to);
    }
}

impl Kernel for SsmConv {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let &[_, n_tokens, n_channels] = self.out.shape() else {
            return Ok(());
        };
        let n_taps = self.n_taps;
        let space = part.own.row(&self.space);
        let (block, weights) = space.split_at_mut(block_elems(n_taps));
        let (x, w) = (RowBytes::new(&self.x), RowBytes::new(&self.weights));
        let mut share = part.work.even(Blocks::count(&self.out, n_tokens, CHANNELS));
        let units = share.units();
        let mut outs = share.blocks(&self.out, n_tokens, CHANNELS);
        for unit in units {
            let (sequence, channels) = outs.place(unit);
            self.turn(w, channels.clone(), 0..n_taps, weights);
            let first_row = sequence * n_channels;
            let rows = first_row + channels.start..first_row + channels.end;
            for start in (0..n_tokens).step_by(TOKENS) {
                let end = n_tokens.min(start + TOKENS);
                self.turn(x, rows.clone(), start..end + n_taps - 1, block);
                for t in start..end {
                    let first = (t - start) * CHANNELS;
                    let columns = block.get(first..first + n_taps * CHANNELS);
                    let taps = Taps {
                        columns: columns.unwrap_or_default(),
                        weights,
                        out: outs.row(unit, t),
                    };
                    math::dispatch(self.isa, taps);
                }
            }
        }
        Ok(())
    }
}

/// Causal depthwise convolution over the joined state and tokens.
pub(crate) fn ssm_conv(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let isa = request.isa();
    let n_taps = request.input(1).shape.last().bound().max(1);
    let mut scratch = ScratchLayout::new();
    let weights = CHANNELS.saturating_mul(n_taps);
    let width = block_elems(n_taps).saturating_add(weights);
    let space = scratch.table(request.n_threads(), width);
    let reason = "blocks of channels in F32";
    Ok(Choice::new("ssm_conv/f32", reason, scratch, move |args| {
        SsmConv {
            x: args.input(0),
            weights: args.input(1),
            out: args.output(0),
            n_taps,
            space: args.table(space),
            isa,
        }
    }))
}
