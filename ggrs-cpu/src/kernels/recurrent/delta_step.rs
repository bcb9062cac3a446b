//! One token of the gated delta rule on some rows of a head's state. It must not know tensors or threads.

use crate::math::{Lanes, Task};

/// What a token brings to every row of a head's state, all of the head's width.
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    /// What is left of each column.
    pub(super) decay: &'a [f32],
    /// The key, times the decay.
    pub(super) decayed_key: &'a [f32],
    /// The query, times the decay.
    pub(super) decayed_query: &'a [f32],
    /// The key.
    pub(super) key: &'a [f32],
    /// Key times query.
    pub(super) key_query: f32,
    /// Strength of the correction.
    pub(super) beta: f32,
    /// Factor of the answer.
    pub(super) scale: f32,
}

/// The update of neighbouring rows: `M *= decay`, `d = (v - M k) beta`, `M += d k^T`, `out = M q scale`.
///
/// Both products are taken of the state as it was: after the update, `M q = (M decay) q + d (k q)`.
pub(super) struct DeltaStep<'a> {
    /// The token.
    pub(super) token: Token<'a>,
    /// The rows, one behind the other.
    pub(super) state: &'a mut [f32],
    /// The rows' elements of the value.
    pub(super) value: &'a [f32],
    /// The rows' elements of the answer.
    pub(super) out: &'a mut [f32],
}

/// Rows that are updated side by side.
const SIDES: usize = 4;

impl Task for DeltaStep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.token.key.len().max(1);
        let mut groups = self.state.chunks_exact_mut(SIDES * width);
        let mut values = self.value.chunks_exact(SIDES);
        let mut outs = self.out.chunks_exact_mut(SIDES);
        for ((rows, value), out) in (&mut groups).zip(&mut values).zip(&mut outs) {
            update::<L, SIDES>(lanes, &self.token, rows, value, out);
        }
        let rest = groups.into_remainder().chunks_exact_mut(width);
        let values = values.remainder().chunks_exact(1);
        let outs = outs.into_remainder().chunks_exact_mut(1);
        for ((row, value), out) in rest.zip(values).zip(outs) {
            update::<L, 1>(lanes, &self.token, row, value, out);
        }
    }
}

/// Updates `R` rows.
#[inline(always)]
fn update<L: Lanes, const R: usize>(
    lanes: L,
    token: &Token<'_>,
    rows: &mut [f32],
    value: &[f32],
    out: &mut [f32],
) {
    let width = token.key.len();
    let mut recalled = [lanes.splat(0.0); R];
    let mut answers = [lanes.splat(0.0); R];
    for start in (0..width).step_by(L::N) {
        let columns = start..width.min(start + L::N);
        let key = lanes.load(&token.decayed_key[columns.clone()]);
        let query = lanes.load(&token.decayed_query[columns.clone()]);
        for r in 0..R {
            let row = lanes.load(&rows[r * width + columns.start..r * width + columns.end]);
            recalled[r] = lanes.mul_add(row, key, recalled[r]);
            answers[r] = lanes.mul_add(row, query, answers[r]);
        }
    }
    let mut corrections = [lanes.splat(0.0); R];
    for r in 0..R {
        let correction = (value[r] - lanes.total(recalled[r])) * token.beta;
        out[r] = (lanes.total(answers[r]) + correction * token.key_query) * token.scale;
        corrections[r] = lanes.splat(correction);
    }
    for start in (0..width).step_by(L::N) {
        let columns = start..width.min(start + L::N);
        let key = lanes.load(&token.key[columns.clone()]);
        let decay = lanes.load(&token.decay[columns.clone()]);
        for r in 0..R {
            let row = &mut rows[r * width + columns.start..r * width + columns.end];
            let kept = lanes.mul(lanes.load(row), decay);
            lanes.store(lanes.mul_add(corrections[r], key, kept), row);
        }
    }
}
