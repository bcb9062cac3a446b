//! One piece of attention: the query heads of a key head, for some neighbouring tokens, over a share of their keys.

use std::ops::Range;

use ggrs_core::error::Fault;

use super::keys::Keys;
use super::space::{BLOCK, Sizes, Space};
use crate::isa::Isa;
use crate::math::{self, Extent, Factor, OnlineRows};
use crate::view::In;

/// The operands of attention. Dense ones have a batch axis; paged ones count as one batch.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) q: In,
    pub(super) k: In,
    pub(super) v: In,
    /// `[B, H, T, C]`, broadcast.
    pub(super) mask: Option<In>,
    /// Has the mask one head for all?
    pub(super) mask_is_shared: bool,
    pub(super) keys: Keys,
    pub(super) n_tokens: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    /// Keys of a batch, or cells of the cache.
    pub(super) n_cells: usize,
    pub(super) scale: f32,
    pub(super) softcap: Option<f32>,
}

/// Which piece.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Of the dense operands.
    pub(super) batch: usize,
    /// The key head.
    pub(super) kv_head: usize,
    /// Tokens of the batch.
    pub(super) tokens: Range<usize>,
    /// Which share of the keys, of how many.
    pub(super) split: (usize, usize),
}

/// A piece at work.
pub(super) struct Unit<'a> {
    pub(super) operands: &'a Operands,
    pub(super) sizes: &'a Sizes,
    pub(super) piece: Piece,
    pub(super) isa: Isa,
}

/// Neighbouring tokens of one sequence.
struct Run {
    sequence: usize,
    /// Tokens of the batch.
    tokens: Range<usize>,
    /// All positions that any of them sees.
    positions: Range<usize>,
}

impl Unit<'_> {
    /// Fills the maxima, totals and weighted sums of the piece's rows: token by token, the group's heads of each.
    pub(super) fn run(&self, space: &mut Space<'_>) -> Result<(), Fault> {
        self.load_queries(space);
        space.max.fill(f32::NEG_INFINITY);
        space.total.fill(0.0);
        space.sums.fill(0.0);
        let mut token = self.piece.tokens.start;
        while token < self.piece.tokens.end {
            let Some(run) = self.run_from(token)? else {
                token += 1;
                continue;
            };
            let n_blocks = run.positions.len().div_ceil(BLOCK);
            let (share, n_shares) = self.piece.split;
            for block in n_blocks * share / n_shares..n_blocks * (share + 1) / n_shares {
                let first = run.positions.start + block * BLOCK;
                let positions = first..run.positions.end.min(first + BLOCK);
                self.add_block(&run, positions, space)?;
            }
            token = run.tokens.end;
        }
        Ok(())
    }

    /// The tokens from `token` on that belong to one sequence; `None` if it is padding.
    fn run_from(&self, token: usize) -> Result<Option<Run>, Fault> {
        let keys = &self.operands.keys;
        let Some(first) = keys.seen(token)? else {
            return Ok(None);
        };
        let mut run = Run {
            sequence: first.sequence,
            tokens: token..token + 1,
            positions: first.positions,
        };
        while run.tokens.end < self.piece.tokens.end {
            match keys.seen(run.tokens.end)? {
                Some(seen) if seen.sequence == run.sequence => {
                    run.positions.start = run.positions.start.min(seen.positions.start);
                    run.positions.end = run.positions.end.max(seen.positions.end);
                    run.tokens.end += 1;
                }
                _ => break,
            }
        }
        Ok(Some(run))
    }

    /// Heads of the piece.
    fn heads(&self) -> Range<usize> {
        let group = self.sizes.group;
        self.piece.kv_head * group..(self.piece.kv_head + 1) * group
    }

    /// Rows of some of the piece's tokens.
    fn rows(&self, tokens: &Range<usize>) -> Range<usize> {
        let start = self.piece.tokens.start;
        (tokens.start - start) * self.sizes.group..(tokens.end - start) * self.sizes.group
    }

    fn load_queries(&self, space: &mut Space<'_>) {
        let (o, stride) = (self.operands, self.sizes.key_stride());
        let mut rows = space.queries.chunks_exact_mut(stride);
        for token in self.piece.tokens.clone() {
            for (head, row) in self.heads().zip(&mut rows) {
                let at = (self.piece.batch * o.n_tokens + token) * o.n_heads + head;
                if let Some(row) = row.get_mut(..self.sizes.key_width) {
                    o.q.read_row(at, row);
                    math::scale_in_place(self.isa, o.scale, row);
                }
            }
        }
    }

    /// Scores a block of at most [`BLOCK`] positions and adds their values.
    fn add_block(
        &self,
        run: &Run,
        positions: Range<usize>,
        space: &mut Space<'_>,
    ) -> Result<(), Fault> {
        let (o, sizes, isa) = (self.operands, self.sizes, self.isa);
        if o.mask.is_some() && !self.load_mask(run, &positions, space) {
            return Ok(());
        }
        let n_keys = positions.len();
        let mut cells = [0; BLOCK];
        for (cell, position) in cells.iter_mut().zip(positions.clone()) {
            *cell = o.keys.cell(run.sequence, position)?;
        }
        let row_of = |i: usize| {
            let cell = self.piece.batch * o.n_cells + cells.get(i).copied().unwrap_or(0);
            cell * o.n_kv_heads + self.piece.kv_head
        };
        let rows = self.rows(&run.tokens);
        let (key_stride, value_stride) = (sizes.key_stride(), sizes.value_stride());
        let (Some(queries), Some(scores), Some(keys), Some(values)) = (
            space
                .queries
                .get(rows.start * key_stride..rows.end * key_stride),
            space.scores.get_mut(..rows.len() * BLOCK),
            space.keys.get_mut(..n_keys * key_stride),
            space.values.get_mut(..n_keys * value_stride),
        ) else {
            return Ok(());
        };

        let key_rows = |i| o.k.row_bytes(row_of(i));
        math::read_cache_rows(
            isa,
            o.k.dtype(),
            key_rows,
            sizes.key_width,
            (&mut *keys, key_stride),
        );
        let turned = (&mut *space.keys_turned, BLOCK);
        math::transpose(isa, (n_keys, sizes.key_width), (keys, key_stride), turned);
        let extent = Extent {
            rows: rows.len(),
            depth: sizes.key_width,
            cols: n_keys,
        };
        let queries = Factor {
            values: queries,
            stride: key_stride,
        };
        let turned = Factor {
            values: space.keys_turned,
            stride: BLOCK,
        };
        math::multiply(isa, extent, queries, turned, (&mut *scores, BLOCK), false);

        if let Some(cap) = o.softcap {
            math::soft_cap(isa, cap, scores);
        }
        self.hide(run, &positions, space.mask, scores)?;
        let online = OnlineRows {
            max: space.max.get_mut(rows.clone()).unwrap_or_default(),
            total: space.total.get_mut(rows.clone()).unwrap_or_default(),
            sums: space
                .sums
                .get_mut(rows.start * value_stride..rows.end * value_stride)
                .unwrap_or_default(),
            stride: value_stride,
        };
        math::merge_scores(isa, scores, BLOCK, online);

        let value_rows = |i| o.v.row_bytes(row_of(i));
        let to = (&mut *values, value_stride);
        math::read_cache_rows(isa, o.v.dtype(), value_rows, sizes.value_width, to);
        let extent = Extent {
            rows: rows.len(),
            depth: n_keys,
            cols: sizes.value_width,
        };
        let weights = Factor {
            values: scores,
            stride: BLOCK,
        };
        let values = Factor {
            values,
            stride: value_stride,
        };
        let sums = space
            .sums
            .get_mut(rows.start * value_stride..)
            .unwrap_or_default();
        math::multiply(isa, extent, weights, values, (sums, value_stride), true);
        Ok(())
    }

    /// Reads the mask of a block, a row for each token or for each row; says whether anything is seen.
    fn load_mask(&self, run: &Run, positions: &Range<usize>, space: &mut Space<'_>) -> bool {
        let o = self.operands;
        let Some(mask) = &o.mask else { return true };
        let mut seen = false;
        let mut out = space.mask.chunks_exact_mut(BLOCK);
        let heads = if o.mask_is_shared { 0..1 } else { self.heads() };
        for token in run.tokens.clone() {
            for (head, out) in heads.clone().zip(&mut out) {
                let row = (self.piece.batch * o.n_heads + head) * o.n_tokens + token;
                let elem_bytes = mask.dtype().block_bytes();
                let bytes = mask.row_bytes(row);
                let bytes = bytes.get(positions.start * elem_bytes..positions.end * elem_bytes);
                let out = out.get_mut(..positions.len()).unwrap_or_default();
                math::read_cache_rows(
                    self.isa,
                    mask.dtype(),
                    |_| bytes.unwrap_or_default(),
                    out.len(),
                    (&mut *out, positions.len()),
                );
                seen |= out.iter().any(|m| *m != f32::NEG_INFINITY);
            }
        }
        seen
    }

    /// Adds the mask, and sets scores of positions that a token does not see to -inf.
    fn hide(
        &self,
        run: &Run,
        positions: &Range<usize>,
        mask: &[f32],
        scores: &mut [f32],
    ) -> Result<(), Fault> {
        let o = self.operands;
        let n_keys = positions.len();
        let mut rows = scores.chunks_exact_mut(BLOCK);
        let mut masks = mask.chunks_exact(BLOCK);
        for token in run.tokens.clone() {
            let seen = match o.keys.seen(token)? {
                Some(seen) => seen.positions,
                None => 0..0,
            };
            let first = seen.start.saturating_sub(positions.start).min(n_keys);
            let end = seen.end.saturating_sub(positions.start).min(n_keys);
            let mut row_mask = None;
            for head in 0..self.sizes.group {
                let Some(row) = rows.next() else {
                    return Ok(());
                };
                if o.mask.is_some() && (head == 0 || !o.mask_is_shared) {
                    row_mask = masks.next();
                }
                if let Some(mask) = row_mask {
                    math::axpy(
                        self.isa,
                        1.0,
                        mask,
                        row.get_mut(..n_keys).unwrap_or_default(),
                    );
                }
                // The end is also that of the last vector: scores behind it stand for no key.
                row.get_mut(..first)
                    .unwrap_or_default()
                    .fill(f32::NEG_INFINITY);
                row.get_mut(end..)
                    .unwrap_or_default()
                    .fill(f32::NEG_INFINITY);
            }
        }
        Ok(())
    }
}
