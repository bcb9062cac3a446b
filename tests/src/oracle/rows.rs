//! Reading and writing rows by id, or by slot and position in a paged cache.

use super::array::{Array, Dense, IntArray};
use super::layout::broadcast;

/// Rows of `table` `[B.., m, n]` by `ids` `[B.., r]`, where an axis of 1 in `ids` serves every batch: `[B.., r, n]`.
///
/// # Panics
/// If an id is not a row of `table`.
pub fn get_rows<T: Copy>(table: &Dense<T>, ids: &IntArray) -> Dense<T> {
    let row_axis = table.rank() - 2;
    let mut shape = table.shape.clone();
    shape[row_axis] = ids.row_len();
    let ids = broadcast(ids, &shape[..=row_axis]);
    Dense::from_fn(&shape, |out_idx| {
        let mut idx = out_idx.to_vec();
        idx[row_axis] = ids.index_at(&out_idx[..=row_axis]);
        table.at(&idx)
    })
}

/// The table of `total` rows along `axis` of which `held` are those from `first` on, the others zeros.
pub fn zeros_around(held: &Array, axis: usize, first: usize, total: usize) -> Array {
    let mut shape = held.shape.clone();
    shape[axis] = total;
    let rows = first..first + held.shape[axis];
    Array::from_fn(&shape, |idx| {
        let mut idx = idx.to_vec();
        if !rows.contains(&idx[axis]) {
            return 0.0;
        }
        idx[axis] -= first;
        held.at(&idx)
    })
}

/// `target` `[B.., m, n]` with the rows named by `ids` replaced by `rows` `[B.., r, n]`, in order; `ids` as for
/// [`get_rows`]. Values are not rounded: cast `rows` to the target's dtype first.
///
/// # Panics
/// If an id is not a row of `target`.
pub fn set_rows(target: &Array, rows: &Array, ids: &IntArray) -> Array {
    let row_axis = rows.rank() - 2;
    let ids = broadcast(ids, &rows.shape[..=row_axis]);
    let mut result = target.clone();
    rows.for_each_index(|idx| {
        let mut target_idx = idx.to_vec();
        target_idx[row_axis] = ids.index_at(&idx[..=row_axis]);
        result.set(&target_idx, rows.at(idx));
    });
    result
}

/// `cache` `[n_cells, ..]` with row `t` of `rows` `[T, ..]` in the cell of token `t`; padding is not written.
///
/// The cell is that of [`Pages::cell`].
///
/// # Panics
/// If a slot, a position or a cell is outside its table.
pub fn cache_write(
    cache: &Array,
    rows: &Array,
    slots: &IntArray,
    positions: &IntArray,
    pages: &Pages<'_>,
) -> Array {
    let mut result = cache.clone();
    rows.for_each_index(|idx| {
        let token = &idx[..1];
        if slots.at(token) >= 0 {
            let mut cell_idx = idx.to_vec();
            cell_idx[0] = pages.cell(slots.index_at(token), positions.index_at(token));
            result.set(&cell_idx, rows.at(idx));
        }
    });
    result
}

/// Where the positions of each slot are in a paged cache.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// Block ids of every slot, `[n_slots, n_blocks]`.
    pub table: &'a IntArray,
    /// Cells per block.
    pub block_cells: usize,
}

impl Pages<'_> {
    /// The cell of a position: `table[slot][position / block] * block + position % block`.
    pub fn cell(&self, slot: usize, position: usize) -> usize {
        self.table.index_at(&[slot, position / self.block_cells]) * self.block_cells
            + position % self.block_cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batched_tables_take_their_own_ids() {
        // Router probabilities as columns: [T, E, 1] by ids [T, k].
        let probs = Array::new(&[2, 3, 1], vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        let ids = IntArray::new(&[2, 2], vec![2, 0, 1, 1]);
        assert_eq!(
            get_rows(&probs, &ids),
            Array::new(&[2, 2, 1], vec![0.3, 0.1, 0.5, 0.5])
        );
        let shared = IntArray::new(&[1, 1], vec![2]);
        assert_eq!(
            get_rows(&probs, &shared),
            Array::new(&[2, 1, 1], vec![0.3, 0.6])
        );
    }

    #[test]
    fn rows_that_are_not_held_are_zeros() {
        let held = Array::new(&[2, 1, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let table = zeros_around(&held, 1, 1, 3);
        assert_eq!(table.shape, [2, 3, 2]);
        let rows = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0];
        assert_eq!(table.data, rows);
        let none = Array::new(&[0, 2], vec![]);
        assert_eq!(zeros_around(&none, 0, 2, 2).data, [0.0; 4]);
    }

    #[test]
    fn the_last_write_to_a_row_stays() {
        let target = Array::filled(&[3, 1], 0.0);
        let rows = Array::new(&[3, 1], vec![1.0, 2.0, 3.0]);
        let ids = IntArray::new(&[3], vec![2, 0, 2]);
        assert_eq!(set_rows(&target, &rows, &ids).data, [2.0, 0.0, 3.0]);
    }

    #[test]
    fn a_paged_cache_takes_rows_by_slot_and_position_and_no_padding() {
        let table = IntArray::new(&[2, 2], vec![2, 0, 1, 3]);
        let pages = Pages {
            table: &table,
            block_cells: 2,
        };
        let cache = Array::filled(&[8, 1], 0.0);
        let rows = Array::new(&[3, 1], vec![1.0, 2.0, 3.0]);
        let slots = IntArray::new(&[3], vec![0, -1, 1]);
        let positions = IntArray::new(&[3], vec![1, 0, 2]);
        let written = cache_write(&cache, &rows, &slots, &positions, &pages);
        assert_eq!(written.data, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 3.0, 0.0]);
    }
}
