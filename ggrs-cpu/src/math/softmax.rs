//! Softmax of a row, and of a row that arrives in blocks (online softmax, arXiv 1805.02867).

use super::exponential::{exp, tanh};
use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// Elements whose sum is kept in F32.
const RUN: usize = 2048;

struct SoftmaxRow<'a> {
    x: &'a [f32],
    scale: f32,
    mask: Option<&'a [f32]>,
    sink: Option<f32>,
    out: &'a mut [f32],
}

impl Task for SoftmaxRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self {
            x,
            scale,
            mask,
            sink,
            out,
        } = self;
        let factor = lanes.splat(scale);
        let mut largest = sink.unwrap_or(f32::NEG_INFINITY);
        let whole = x.len() / L::N * L::N;
        let mut maxima = lanes.splat(f32::NEG_INFINITY);
        for start in (0..x.len()).step_by(L::N) {
            let end = x.len().min(start + L::N);
            let mut logits = lanes.mul(lanes.load(&x[start..end]), factor);
            if let Some(mask) = mask {
                logits = lanes.add(logits, lanes.load(&mask[start..end]));
            }
            lanes.store(logits, &mut out[start..end]);
            if end <= whole {
                maxima = lanes.max(logits, maxima);
            }
        }
        largest = out[whole..].iter().copied().fold(largest, f32::max);
        largest = largest.max(lanes.largest(maxima));
        if largest == f32::NEG_INFINITY {
            // A NaN is never the largest, but must not become a 0.
            out.iter_mut()
                .filter(|o| !o.is_nan())
                .for_each(|o| *o = 0.0);
            return;
        }
        let shift = lanes.splat(largest);
        let mut total = sink.map_or(0.0, |sink| f64::from(sink - largest).exp());
        for run in out.chunks_mut(RUN) {
            let mut sums = lanes.splat(0.0);
            let mut vectors = run.chunks_exact_mut(L::N);
            for out in &mut vectors {
                let e = exp(lanes, lanes.sub(lanes.load(out), shift));
                sums = lanes.add(sums, e);
                lanes.store(e, out);
            }
            total += f64::from(lanes.total(sums));
            let rest = vectors.into_remainder();
            let e = exp(lanes, lanes.sub(lanes.load(rest), shift));
            lanes.store(e, rest);
            total += rest.iter().map(|e| f64::from(*e)).sum::<f64>();
        }
        let inverse = lanes.splat((1.0 / total) as f32);
        for out in out.chunks_mut(L::N) {
            lanes.store(lanes.mul(lanes.load(out), inverse), out);
        }
    }
}

/// `out = softmax(scale * x + mask)`, with `sink` as one more logit that has no output. All rows have one length. A row
/// of nothing but -inf gives zeros.
pub(crate) fn softmax_row(
    isa: Isa,
    x: &[f32],
    scale: f32,
    mask: Option<&[f32]>,
    sink: Option<f32>,
    out: &mut [f32],
) {
    let same = x.len() == out.len() && mask.is_none_or(|mask| mask.len() == x.len());
    debug_assert!(same, "rows of one length");
    if same {
        dispatch(
            isa,
            SoftmaxRow {
                x,
                scale,
                mask,
                sink,
                out,
            },
        );
    }
}

struct SoftCap<'a>(f32, &'a mut [f32]);

impl Task for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (cap, inverse) = (lanes.splat(self.0), lanes.splat(1.0 / self.0));
        for x in self.1.chunks_mut(L::N) {
            let y = tanh(lanes, lanes.mul(lanes.load(x), inverse));
            lanes.store(lanes.mul(y, cap), x);
        }
    }
}

/// `x = cap * tanh(x / cap)`.
pub(crate) fn soft_cap(isa: Isa, cap: f32, x: &mut [f32]) {
    dispatch(isa, SoftCap(cap, x));
}

/// Rows of sums weighted by `e^(score - max)`, with the sums of the weights themselves.
pub(crate) struct OnlineRows<'a> {
    /// The largest score so far, -inf at first.
    pub(crate) max: &'a mut [f32],
    /// The sum of the weights, 0 at first.
    pub(crate) total: &'a mut [f32],
    /// The weighted sums, 0 at first: rows `stride` elements apart.
    pub(crate) sums: &'a mut [f32],
    /// From a row of sums to the next.
    pub(crate) stride: usize,
}

struct MergeScores<'a> {
    scores: &'a mut [f32],
    width: usize,
    rows: OnlineRows<'a>,
}

impl Task for MergeScores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let OnlineRows {
            max,
            total,
            sums,
            stride,
        } = self.rows;
        let rows = max
            .iter_mut()
            .zip(total)
            .zip(sums.chunks_mut(stride.max(1)));
        for (scores, ((max, total), sums)) in self.scores.chunks_exact_mut(self.width).zip(rows) {
            let mut maxima = lanes.splat(*max);
            for scores in scores.chunks_exact(L::N) {
                maxima = lanes.max(lanes.load(scores), maxima);
            }
            let largest = lanes.largest(maxima);
            if largest == f32::NEG_INFINITY {
                // Nothing is seen yet; a NaN is never the largest, but must not become a 0.
                scores
                    .iter_mut()
                    .filter(|s| !s.is_nan())
                    .for_each(|s| *s = 0.0);
                *total += scores.iter().sum::<f32>();
                continue;
            }
            let shift = lanes.splat(largest);
            let mut weights = lanes.splat(0.0);
            for scores in scores.chunks_exact_mut(L::N) {
                let e = exp(lanes, lanes.sub(lanes.load(scores), shift));
                weights = lanes.add(weights, e);
                lanes.store(e, scores);
            }
            if *max < largest {
                let fade = (*max - largest).exp();
                *total *= fade;
                let fade = lanes.splat(fade);
                for sums in sums.chunks_mut(L::N) {
                    lanes.store(lanes.mul(lanes.load(sums), fade), sums);
                }
                *max = largest;
            }
            *total += lanes.total(weights);
        }
    }
}

/// Turns a block of scores, rows of `width` (a multiple of the vector), into weights of the rows' sums, which are scaled
/// to the new maxima; the weighted values are left to be added.
pub(crate) fn merge_scores(isa: Isa, scores: &mut [f32], width: usize, rows: OnlineRows<'_>) {
    debug_assert!(width.is_multiple_of(super::VECTOR) && width > 0);
    if width > 0 {
        dispatch(
            isa,
            MergeScores {
                scores,
                width,
                rows,
            },
        );
    }
}
