//! Rotation of the pairs of a row, each by its own angle.

use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// Cosines and sines of the angles, one for each pair.
#[derive(Clone, Copy)]
pub(crate) struct Rotation<'a> {
    /// Cosines.
    pub(crate) cos: &'a [f32],
    /// Sines.
    pub(crate) sin: &'a [f32],
}

struct RotateHalves<'a> {
    turn: Rotation<'a>,
    x: (&'a [f32], &'a [f32]),
    out: (&'a mut [f32], &'a mut [f32]),
}

impl Task for RotateHalves<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let turns = (self.turn.cos.chunks(L::N)).zip(self.turn.sin.chunks(L::N));
        let ins = (self.x.0.chunks(L::N)).zip(self.x.1.chunks(L::N));
        let outs = (self.out.0.chunks_mut(L::N)).zip(self.out.1.chunks_mut(L::N));
        for (((cos, sin), (x, y)), (out_x, out_y)) in turns.zip(ins).zip(outs) {
            let (cos, sin) = (lanes.load(cos), lanes.load(sin));
            let (x, y) = (lanes.load(x), lanes.load(y));
            let minus_y = lanes.mul(y, lanes.splat(-1.0));
            lanes.store(lanes.mul_add(x, cos, lanes.mul(minus_y, sin)), out_x);
            lanes.store(lanes.mul_add(x, sin, lanes.mul(y, cos)), out_y);
        }
    }
}

/// Rotates the pairs `(x[i], x[n + i])` of a row of `2 n` elements.
pub(crate) fn rotate_halves(isa: Isa, turn: Rotation<'_>, x: &[f32], out: &mut [f32]) {
    let n = x.len() / 2;
    if let (Some(x), Some(out)) = (x.split_at_checked(n), out.split_at_mut_checked(n)) {
        dispatch(isa, RotateHalves { turn, x, out });
    }
}

/// Rotates the pairs `(x[2 i], x[2 i + 1])` of a row.
pub(crate) fn rotate_pairs(turn: Rotation<'_>, x: &[f32], out: &mut [f32]) {
    let pairs = x.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
    for (([x, y], out), (cos, sin)) in pairs.zip(turn.cos.iter().zip(turn.sin)) {
        *out = [x * cos - y * sin, x * sin + y * cos];
    }
}
