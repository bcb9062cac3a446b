//! A thread's working memory for one piece of attention: queries, scores, sums, and blocks of keys and values as F32.

use crate::math::VECTOR;

/// Keys that are scored at a time.
pub(super) const BLOCK: usize = 64;

/// Sizes that decide the working memory. A piece has a row for each of its tokens and each head of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Most tokens of a piece.
    pub(super) tokens: usize,
    /// Query heads that share a key head.
    pub(super) group: usize,
    /// Elements of a query and a key.
    pub(super) key_width: usize,
    /// Elements of a value.
    pub(super) value_width: usize,
}

impl Sizes {
    /// Most rows of a piece.
    pub(super) const fn rows(&self) -> usize {
        self.tokens.saturating_mul(self.group)
    }

    /// Elements from a row of queries or keys to the next.
    pub(super) const fn key_stride(&self) -> usize {
        self.key_width.next_multiple_of(VECTOR)
    }

    /// Elements from a row of values or sums to the next.
    pub(super) const fn value_stride(&self) -> usize {
        self.value_width.next_multiple_of(VECTOR)
    }

    /// The lengths of the parts, in the order of [`Space`].
    fn parts(&self) -> [usize; 8] {
        let rows = self.rows();
        let (key, value) = (self.key_stride(), self.value_stride());
        [
            rows.saturating_mul(key),
            rows.saturating_mul(value),
            rows.saturating_mul(BLOCK),
            rows.saturating_mul(BLOCK),
            BLOCK * key,
            BLOCK * value,
            rows,
            rows,
        ]
    }

    /// Elements of working memory.
    pub(super) fn elems(&self) -> usize {
        self.parts().into_iter().fold(0, usize::saturating_add)
    }
}

/// The working memory, cut in parts.
pub(super) struct Space<'a> {
    /// Scaled queries, rows of the key stride.
    pub(super) queries: &'a mut [f32],
    /// Weighted sums of values, rows of the value stride.
    pub(super) sums: &'a mut [f32],
    /// Scores, rows of a block.
    pub(super) scores: &'a mut [f32],
    /// What is added to scores, rows of a block.
    pub(super) mask: &'a mut [f32],
    /// A block of keys, a row for each element.
    pub(super) keys: &'a mut [f32],
    /// A block of values, rows of the value stride.
    pub(super) values: &'a mut [f32],
    /// The largest score of each row.
    pub(super) max: &'a mut [f32],
    /// The sum of weights of each row.
    pub(super) total: &'a mut [f32],
}

impl<'a> Space<'a> {
    /// Cuts memory of [`Sizes::elems`] elements.
    pub(super) fn new(sizes: &Sizes, memory: &'a mut [f32]) -> Self {
        let mut rest = memory;
        let [queries, sums, scores, mask, keys, values, max, total] = sizes.parts().map(|n| {
            let (part, behind) = std::mem::take(&mut rest)
                .split_at_mut_checked(n)
                .unwrap_or_default();
            rest = behind;
            part
        });
        Self {
            queries,
            sums,
            scores,
            mask,
            keys,
            values,
            max,
            total,
        }
    }
}
