//! Rows of states: what a slot's cells hold, read and written in the order of positions, wherever they lie.

use std::ops::Range;

use ggrs_core::DType;

use super::pages::TailCopy;
use crate::buckets::{StateInfo, Steps};
use crate::error::SessionError;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A state that has one row for every cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateRows {
    /// Its name in the graph.
    pub(super) name: String,
    /// Its elements.
    pub(super) dtype: DType,
    /// Bytes of a row.
    pub(super) row_bytes: usize,
}

impl StateRows {
    /// A state's rows.
    ///
    /// # Errors
    /// The state's first axis is not that of the cells: it could be neither truncated nor saved by position.
    pub(super) fn of(state: &StateInfo, n_cells: usize) -> Result<Self, SessionError> {
        let desc = &state.desc;
        let has_cells = desc.shape.dim(0).is_some_and(|d| d.bound() == n_cells);
        match desc.bytes().filter(|_| has_cells) {
            Some(bytes) => Ok(Self {
                name: state.name.clone(),
                dtype: desc.dtype,
                row_bytes: bytes / n_cells.max(1),
            }),
            None => Err(SessionError::StateRows {
                state: state.name.clone(),
                found: Box::new(desc.clone()),
                n_cells,
            }),
        }
    }

    /// Stretches of cells as bytes of the state, none longer than what is copied at once.
    fn parts(&self, cells: &[Range<usize>]) -> impl Iterator<Item = (u64, usize)> {
        let row_bytes = self.row_bytes;
        let at_once = (COPY_BYTES / row_bytes.max(1)).max(1);
        cells.iter().flat_map(move |stretch| {
            stretch.clone().step_by(at_once).map(move |cell| {
                let n = at_once.min(stretch.end - cell);
                ((cell * row_bytes) as u64, n * row_bytes)
            })
        })
    }

    /// Gives the rows of these cells to `sink`, in order.
    pub(super) fn read(
        &self,
        steps: &mut Steps,
        cells: &[Range<usize>],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        for (start, n) in self.parts(cells) {
            bytes.resize(n, 0);
            steps.read_state(&self.name, start, &mut bytes)?;
            sink(&bytes)?;
        }
        Ok(())
    }

    /// Writes the rows of these cells, in order, as `source` fills them.
    pub(super) fn write(
        &self,
        steps: &mut Steps,
        cells: &[Range<usize>],
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        for (start, n) in self.parts(cells) {
            bytes.resize(n, 0);
            source(&mut bytes)?;
            steps.write_state(&self.name, start, &bytes)?;
        }
        Ok(())
    }

    /// Copies rows between cells.
    pub(super) fn copy(&self, steps: &mut Steps, cells: TailCopy) -> Result<(), SessionError> {
        let at = |cell: usize| (cell * self.row_bytes) as u64;
        let mut bytes = vec![0; cells.n * self.row_bytes];
        steps.read_state(&self.name, at(cells.from), &mut bytes)?;
        steps.write_state(&self.name, at(cells.to), &bytes)
    }
}

/// Bytes of all states for `n_tokens` tokens.
pub(super) fn rows_bytes(states: &[StateRows], n_tokens: usize) -> u64 {
    let per_token: u64 = states.iter().map(|s| s.row_bytes as u64).sum();
    per_token.saturating_mul(n_tokens as u64)
}
