//! The gated delta rule: every thread takes some rows of some heads' states through all tokens.

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::{GatedDeltaNet, UnaryKind};

use super::delta_step::{DeltaStep, Token};
use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::kernels::float_rows::cut;
use crate::math;
use crate::part::{Part, Share};
use crate::view::{Blocks, In, Out, ScratchLayout, Table};

struct DeltaNet {
    q: In,
    k: In,
    v: In,
    g: In,
    beta: In,
    state: In,
    /// `[B, Hv, T, D]`.
    out: Out,
    /// `[B, Hv, D, snapshots, D]`.
    states: Out,
    n_snapshots: usize,
    /// Rows of a state that one unit of work has; they divide the width.
    band: usize,
    space: Table<f32>,
    isa: Isa,
}

/// Working memory of a thread.
struct Space<'a> {
    state: &'a mut [f32],
    decay: &'a mut [f32],
    decayed_key: &'a mut [f32],
    decayed_query: &'a mut [f32],
}

impl DeltaNet {
    /// Takes the rows from `first_row` on of head `head` of sequence `batch` through all tokens.
    fn run_rows(
        &self,
        (batch, head, first_row): (usize, usize, usize),
        unit: usize,
        share: &mut Share,
        space: &mut Space<'_>,
    ) {
        let &[_, n_tokens, n_heads, width] = self.v.shape() else {
            return;
        };
        let n_key_heads = self.k.grid().from_end(1).max(1);
        let first_state = (batch * n_heads + head) * width + first_row;
        for (i, row) in space.state.chunks_exact_mut(width.max(1)).enumerate() {
            row.copy_from_slice(self.state.row(first_state + i));
        }
        for t in 0..n_tokens {
            let at = batch * n_tokens + t;
            let (row, key_row) = (at * n_heads + head, at * n_key_heads + head % n_key_heads);
            let (key, query) = (self.k.row::<f32>(key_row), self.q.row::<f32>(key_row));
            match *self.g.row::<f32>(row) {
                [g] => space.decay.fill(g),
                ref g => space.decay.copy_from_slice(g),
            }
            math::unary_in_place(self.isa, UnaryKind::Exp, space.decay);
            math::scale_each(self.isa, 1.0, key, space.decay, space.decayed_key);
            math::scale_each(self.isa, 1.0, query, space.decay, space.decayed_query);
            let beta = self.beta.elem(at, head).try_into();
            let token = Token {
                decay: space.decay,
                decayed_key: space.decayed_key,
                decayed_query: space.decayed_query,
                key,
                key_query: math::dot(self.isa, key, query),
                beta: beta.map_or(0.0, f32::from_le_bytes),
                scale: (1.0 / (width as f64).sqrt()) as f32,
            };
            let value = self.v.row::<f32>(row);
            let mut blocks = share.blocks(&self.out, n_tokens, self.band);
            let step = DeltaStep {
                token,
                state: space.state,
                value: value
                    .get(first_row..first_row + self.band)
                    .unwrap_or_default(),
                out: blocks.row(unit, t),
            };
            math::dispatch(self.isa, step);
            let age = n_tokens - 1 - t;
            if age < self.n_snapshots {
                let mut rows = share.rows(&self.states, self.band * self.n_snapshots);
                for (i, from) in space.state.chunks_exact(width.max(1)).enumerate() {
                    let to = (first_state + i) * self.n_snapshots + age;
                    rows.row(to).copy_from_slice(from);
                }
            }
        }
    }
}

impl Kernel for DeltaNet {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let &[_, n_tokens, n_heads, width] = self.v.shape() else {
            return Ok(());
        };
        let (vectors, state) = part.own.row(&self.space).split_at_mut(3 * width);
        let [decay, decayed_key, decayed_query] = cut(vectors, width);
        let mut space = Space {
            state,
            decay,
            decayed_key,
            decayed_query,
        };
        let per_head = width / self.band;
        let mut runs = part
            .work
            .chunks(Blocks::count(&self.out, n_tokens, self.band), 1);
        while let Some(mut share) = runs.next() {
            for unit in share.units() {
                let (at, band) = (unit / per_head, unit % per_head);
                let rows = (at / n_heads, at % n_heads, band * self.band);
                self.run_rows(rows, unit, &mut share, &mut space);
            }
        }
        Ok(())
    }
}

/// The gated delta rule over all tokens, with snapshots of the state.
pub(crate) fn gated_delta_net(
    op: &GatedDeltaNet,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    let (n_snapshots, isa) = (op.snapshots, request.isa());
    let width = request.input(2).shape.last().bound();
    // 32 rows of 128 elements stay in the first cache.
    let band = [32, 16, 8, 4, 2, 1]
        .into_iter()
        .find(|n| width.is_multiple_of(*n))
        .unwrap_or(1);
    let mut scratch = ScratchLayout::new();
    let space = scratch.table(request.n_threads(), width.saturating_mul(3 + band));
    let reason = "rows of the states through all tokens";
    Ok(Choice::new(
        "gated_delta_net/f32",
        reason,
        scratch,
        move |args| DeltaNet {
            q: args.input(0),
            k: args.input(1),
            v: args.input(2),
            g: args.input(3),
            beta: args.input(4),
            state: args.input(5),
            out: args.output(0).permute(&[0, 2, 1, 3]),
            states: args.output(1).permute(&[0, 2, 3, 1, 4]),
            n_snapshots,
            band,
            space: args.table(space),
            isa,
        },
    ))
}
