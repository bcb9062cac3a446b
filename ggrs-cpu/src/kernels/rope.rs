//! Rotary position embedding: the angles of a token once, in F64, then all its heads.

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::{Rope, RopeMode};

use super::float_rows::{cut, fill_row};
use super::rope_angles::Angles;
use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::math::{Rotation, rotate_halves, rotate_pairs};
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

struct Rotate {
    x: In,
    positions: In,
    factors: Option<In>,
    out: Out,
    mode: RopeMode,
    n_rot: usize,
    angles: Angles,
    space: Table<f32>,
    isa: Isa,
}

impl Rotate {
    fn rotate(&self, turn: Rotation<'_>, x: &[f32], out: &mut [f32]) {
        let halves = (x.split_at_checked(self.n_rot)).zip(out.split_at_mut_checked(self.n_rot));
        if let Some(((x, x_rest), (out, out_rest))) = halves {
            match self.mode {
                RopeMode::Normal => rotate_pairs(turn, x, out),
                RopeMode::Neox | RopeMode::Multi(_) | RopeMode::Interleaved(_) => {
                    rotate_halves(self.isa, turn, x, out);
                }
            }
            for (out, x) in out_rest.iter_mut().zip(x_rest) {
                *out = *x;
            }
        }
    }
}

impl Kernel for Rotate {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let n_heads = self.x.grid().from_end(1);
        let n_tokens = self.x.grid().from_end(2).max(1);
        let n_steps = self.out.n_rows().checked_div(n_heads).unwrap_or(0);
        let positions = self.positions.values::<i32>();
        let factors = self.factors.as_ref().map(In::values::<f32>);
        let (turns, space) = part.own.row(&self.space).split_at_mut(self.n_rot);
        let (cos, sin) = turns.split_at_mut(self.n_rot / 2);
        let [x_space, out_space] = cut(space, self.x.width());
        let mut share = part.work.even(n_steps);
        let steps = share.units();
        let mut rows = share.rows(&self.out, n_heads);
        for step in steps {
            let token = step % n_tokens;
            self.angles.of_token(
                |row| positions.get(row * n_tokens + token).copied().unwrap_or(0),
                factors,
                (cos, sin),
            );
            let turn = Rotation { cos, sin };
            for row in step * n_heads..(step + 1) * n_heads {
                let x = self.x.row_f32(row, x_space);
                fill_row(&mut rows, self.out.dtype(), row, out_space, |out| {
                    self.rotate(turn, x, out);
                });
            }
        }
        Ok(())
    }
}

/// Rotates the first `n_rot` elements of every head by its token's position.
pub(crate) fn rope(op: &Rope, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let isa = request.isa();
    let (mode, n_rot, factored) = (op.mode, op.n_rot, op.factors);
    let angles = Angles::new(op);
    let width = request.input(0).shape.last().bound();
    let mut scratch = ScratchLayout::new();
    let row = n_rot.saturating_add(width.saturating_mul(2));
    let space = scratch.table(request.n_threads(), row);
    let reason = "angles in F64, once for all heads";
    Ok(Choice::new("rope/f32", reason, scratch, move |args| {
        Rotate {
            x: args.input(0),
            positions: args.input(1),
            factors: factored.then(|| args.input(2)),
            out: args.output(0),
            mode,
            n_rot,
            angles: angles.clone(),
            space: args.table(space),
            isa,
        }
    }))
}
