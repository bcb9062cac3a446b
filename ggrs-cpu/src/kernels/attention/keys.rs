//! Which keys a query sees, and where they lie.

use std::ops::Range;

use ggrs_core::error::Fault;

use crate::view::In;

/// The keys of a token's sequence that it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which sequence: the slot of a paged cache, 0 if there is only one.
    pub(super) sequence: usize,
    /// Positions in it.
    pub(super) positions: Range<usize>,
}

/// How keys are found.
pub(super) enum Keys {
    /// A token sees all keys of its batch, in order.
    Dense {
        /// How many there are.
        n_keys: usize,
    },
    /// Keys lie in pages.
    Paged(Box<Pages>),
}

/// A paged cache.
pub(super) struct Pages {
    /// `[T]`.
    pub(super) positions: In,
    /// `[T]`.
    pub(super) slots: In,
    /// `[slots, blocks]`.
    pub(super) table: In,
    /// Cells in a block.
    pub(super) block: usize,
    /// Positions that a token sees, itself included.
    pub(super) window: Option<usize>,
    /// Cells in the cache.
    pub(super) n_cells: usize,
}

impl Keys {
    /// What a token sees; nothing if it is padding.
    pub(super) fn seen(&self, token: usize) -> Result<Option<Seen>, Fault> {
        match self {
            Self::Dense { n_keys } => Ok(Some(Seen {
                sequence: 0,
                positions: 0..*n_keys,
            })),
            Self::Paged(pages) => pages.seen(token),
        }
    }

    /// The cells of the first of some positions of a sequence, as many as lie one behind the other.
    pub(super) fn cells(
        &self,
        sequence: usize,
        positions: Range<usize>,
    ) -> Result<Range<usize>, Fault> {
        match self {
            Self::Dense { .. } => Ok(positions),
            Self::Paged(pages) => pages.cells(sequence, positions),
        }
    }
}

impl Pages {
    fn seen(&self, token: usize) -> Result<Option<Seen>, Fault> {
        let at = |ids: &In| ids.values::<i32>().get(token).copied().unwrap_or(-1);
        let slot = at(&self.slots);
        let Ok(sequence) = usize::try_from(slot) else {
            return Ok(None);
        };
        let fault = |role, index: i32, bound| Fault::IndexOutOfRange {
            role,
            row: token,
            index: i64::from(index),
            bound,
        };
        let n_slots = self.table.n_rows();
        if sequence >= n_slots {
            return Err(fault("slots", slot, n_slots));
        }
        let position = at(&self.positions);
        let n_positions = self.table.width().saturating_mul(self.block);
        let last = usize::try_from(position).ok().filter(|p| *p < n_positions);
        let end = last.ok_or_else(|| fault("positions", position, n_positions))? + 1;
        let first = self.window.map_or(0, |window| end.saturating_sub(window));
        Ok(Some(Seen {
            sequence,
            positions: first..end,
        }))
    }

    fn cells(&self, slot: usize, positions: Range<usize>) -> Result<Range<usize>, Fault> {
        let (page, offset) = (positions.start / self.block, positions.start % self.block);
        let at = slot * self.table.width() + page;
        let entry = self.table.values::<i32>().get(at).copied().unwrap_or(-1);
        let n = positions.len().min(self.block - offset);
        let cells = || {
            let start = usize::try_from(entry).ok()?.checked_mul(self.block)? + offset;
            let end = start.checked_add(n)?;
            (end <= self.n_cells).then_some(start..end)
        };
        cells().ok_or(Fault::IndexOutOfRange {
            role: "page table",
            row: slot,
            index: i64::from(entry),
            bound: self.n_cells.div_ceil(self.block),
        })
    }
}
