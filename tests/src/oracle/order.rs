//! Ops that answer with indices of the last axis: argmax, argsort, top-k.
//!
//! Among equal values the lower index comes first.

use super::array::{Array, IntArray};
use super::layout::slice;

/// Index of the largest element of every row: `[.., n]` gives `[..]`.
pub fn argmax(x: &Array) -> IntArray {
    let (_, ids) = top_k(x, 1);
    IntArray::new(&x.shape[..x.rank() - 1], ids.data)
}

/// Indices of every row in the order of their values; the shape stays.
///
/// # Panics
/// If a value is NaN: there is no order then.
pub fn argsort(x: &Array, descending: bool) -> IntArray {
    x.map_rows(|row| {
        assert!(
            row.iter().all(|v| !v.is_nan()),
            "NaN has no place in an order"
        );
        let mut ids: Vec<i64> = (0..row.len() as i64).collect();
        // The sort is stable, so equal values keep the order of their indices in both directions.
        ids.sort_by(|&a, &b| {
            let order = row[a as usize].total_cmp(&row[b as usize]);
            if descending { order.reverse() } else { order }
        });
        ids
    })
}

/// The `k` largest elements of every row, largest first, and their indices: `[.., n]` gives two `[.., k]`.
pub fn top_k(x: &Array, k: usize) -> (Array, IntArray) {
    let ids = slice(&argsort(x, true), x.rank() - 1, 0, k);
    let values = Array::from_fn(&ids.shape, |idx| {
        let mut x_idx = idx.to_vec();
        x_idx[x.rank() - 1] = ids.index_at(idx);
        x.at(&x_idx)
    });
    (values, ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index() {
        let x = Array::new(&[2, 4], vec![1.0, 3.0, 3.0, 0.0, 5.0, 5.0, 5.0, 6.0]);
        assert_eq!(argsort(&x, true).data, [1, 2, 0, 3, 3, 0, 1, 2]);
        assert_eq!(argsort(&x, false).data, [3, 0, 1, 2, 0, 1, 2, 3]);
        assert_eq!(argmax(&x).data, [1, 3]);
        assert_eq!(
            top_k(&x, 2).0,
            Array::new(&[2, 2], vec![3.0, 3.0, 6.0, 5.0])
        );
    }
}
