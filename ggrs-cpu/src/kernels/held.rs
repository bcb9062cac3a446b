//! Which rows of a table are held when others are elsewhere. It knows ids, not what the rows are.

use ggrs_core::error::Fault;
use ggrs_core::ops::Window;

/// Rows `first..first + n` of a table of `total`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    first: usize,
    n: usize,
    total: usize,
}

impl Held {
    /// The window of a table that has `n` rows here; all of them, if there is none.
    pub(crate) fn new(window: Option<Window>, n: usize) -> Self {
        Self {
            first: window.map_or(0, |w| w.first),
            n,
            total: window.map_or(n, |w| w.total),
        }
    }

    /// Rows that are here.
    pub(crate) const fn n(&self) -> usize {
        self.n
    }

    /// Are there rows elsewhere?
    pub(crate) const fn is_part(&self) -> bool {
        self.n < self.total
    }

    /// Where the row that `index` names lies here; `None` if it is elsewhere.
    ///
    /// # Errors
    /// There is no such row: `role` and `row` say whose index it is.
    pub(crate) fn place(
        &self,
        index: i64,
        role: &'static str,
        row: usize,
    ) -> Result<Option<usize>, Fault> {
        let bound = self.total;
        let Some(id) = usize::try_from(index).ok().filter(|id| *id < bound) else {
            return Err(Fault::IndexOutOfRange {
                role,
                row,
                index,
                bound,
            });
        };
        Ok(id.checked_sub(self.first).filter(|id| *id < self.n))
    }
}
