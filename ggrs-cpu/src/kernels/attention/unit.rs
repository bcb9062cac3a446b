//! One piece of attention: the query heads of a key head, for some neighbouring tokens, over a share of their keys.

use std::ops::Range;

use ggrs_core::error::Fault;

use super::keys::Keys;
use super::space::{BLOCK, Sizes, Space};
use crate::isa::Isa;
use crate::kernels::row_bytes::RowBytes;
use crate::math::{self, Extent, Factor, Gathered, OnlineRows};
use crate::view::In;

/// The operands of attention. Dense ones have a batch axis; paged ones count as one batch.
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
    operands: &'a Operands,
    keys: RowBytes<'a>,
    values: RowBytes<'a>,
    sizes: &'a Sizes,
    piece: Piece,
    isa: Isa,
}

/// Some positions, and the rows of keys and values that stand for them.
struct Block {
    positions: Range<usize>,
    rows: [usize; BLOCK],
}

impl Block {
    /// Row `i` of the block; asks for that of the next one.
    #[inline(always)]
    fn row<'a>(&self, of: RowBytes<'a>, i: usize, next: &Self) -> &'a [u8] {
        if i < next.positions.len() {
            math::prefetch(of.row(next.rows.get(i).copied().unwrap_or(0)));
        }
        of.row(self.rows.get(i).copied().unwrap_or(0))
    }
}

/// Neighbouring tokens of one sequence.
struct Run {
    sequence: usize,
    /// Tokens of the batch.
    tokens: Range<usize>,
    /// All positions that any of them sees.
    positions: Range<usize>,
}

impl<'a> Unit<'a> {
    /// A piece of attention over these operands.
    pub(super) fn new(operands: &'a Operands, sizes: &'a Sizes, piece: Piece, isa: Isa) -> Self {
        Self {
            operands,
            keys: RowBytes::new(&operands.k),
            values: RowBytes::new(&operands.v),
            sizes,
            piece,
            isa,
        }
    }

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
            let first = run.positions.start + n_blocks * share / n_shares * BLOCK;
            let end = run.positions.start + n_blocks * (share + 1) / n_shares * BLOCK;
            let mut block = self.rows_from(&run, first)?;
            while block.positions.start < end.min(run.positions.end) {
                let next = self.rows_from(&run, block.positions.end)?;
                self.add_block(&run, &block, &next, space);
                block = next;
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

    /// The block of a run's positions from `first` on; empty behind the last.
    fn rows_from(&self, run: &Run, first: usize) -> Result<Block, Fault> {
        let o = self.operands;
        let positions = first..run.positions.end.min(first + BLOCK);
        let mut rows = [0; BLOCK];
        let mut at = rows.iter_mut();
        let mut rest = positions.clone();
        while !rest.is_empty() {
            let cells = o.keys.cells(run.sequence, rest.clone())?;
            rest.start += cells.len();
            for (cell, row) in cells.zip(&mut at) {
                *row = (self.piece.batch * o.n_cells + cell) * o.n_kv_heads + self.piece.kv_head;
            }
        }
        Ok(Block { positions, rows })
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

    /// Scores a block and adds its values; asks for the memory of the one that follows.
    fn add_block(&self, run: &Run, block: &Block, next: &Block, space: &mut Space<'_>) {
        let (o, sizes, isa) = (self.operands, self.sizes, self.isa);
        let positions = &block.positions;
        if o.mask.is_some() && !self.load_mask(run, positions, space) {
            return;
        }
        let n_keys = positions.len();
        let rows = self.rows(&run.tokens);
        let (key_stride, value_stride) = (sizes.key_stride(), sizes.value_stride());
        let (Some(queries), Some(scores)) = (
            (space.queries).get(rows.start * key_stride..rows.end * key_stride),
            space.scores.get_mut(..rows.len() * BLOCK),
        ) else {
            return;
        };

        let to = Gathered {
            n_rows: n_keys,
            width: sizes.key_width,
            out: space.keys,
            stride: BLOCK,
        };
        let key = |i| block.row(self.keys, i, next);
        math::gather_turned(isa, self.keys.dtype(), key, to);
        let extent = Extent {
            rows: rows.len(),
            depth: sizes.key_width,
            cols: n_keys,
        };
        let queries = Factor {
            values: queries,
            stride: key_stride,
        };
        let keys = Factor {
            values: space.keys,
            stride: BLOCK,
        };
        math::multiply(isa, extent, queries, keys, (&mut *scores, BLOCK), false);

        if let Some(cap) = o.softcap {
            math::soft_cap(isa, cap, scores);
        }
        self.hide(run, positions, space.mask, scores);
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

        let to = Gathered {
            n_rows: n_keys,
            width: sizes.value_width,
            out: space.values,
            stride: value_stride,
        };
        let value = |i| block.row(self.values, i, next);
        math::gather(isa, self.values.dtype(), value, to);
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
            values: space.values,
            stride: value_stride,
        };
        let sums = space
            .sums
            .get_mut(rows.start * value_stride..)
            .unwrap_or_default();
        math::multiply(isa, extent, weights, values, (sums, value_stride), true);
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
                let bytes = bytes.unwrap_or_default();
                let to = Gathered {
                    n_rows: 1,
                    width: positions.len(),
                    out,
                    stride: BLOCK,
                };
                math::gather(self.isa, mask.dtype(), |_| bytes, to);
                let row = out.get(..positions.len()).unwrap_or_default();
                seen |= row.iter().any(|m| *m != f32::NEG_INFINITY);
            }
        }
        seen
    }

    /// Adds the mask, and sets scores of positions that a token does not see to -inf.
    fn hide(&self, run: &Run, positions: &Range<usize>, mask: &[f32], scores: &mut [f32]) {
        let o = self.operands;
        let n_keys = positions.len();
        let mut rows = scores.chunks_exact_mut(BLOCK);
        let mut masks = mask.chunks_exact(BLOCK);
        for token in run.tokens.clone() {
            // Faults were found when the run was made.
            let seen = match o.keys.seen(token) {
                Ok(Some(seen)) => seen.positions,
                _ => 0..0,
            };
            let first = seen.start.saturating_sub(positions.start).min(n_keys);
            let end = seen.end.saturating_sub(positions.start).min(n_keys);
            let mut row_mask = None;
            for head in 0..self.sizes.group {
                let Some(row) = rows.next() else { return };
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
    }
}
