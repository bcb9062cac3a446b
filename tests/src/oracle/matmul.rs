//! Matrix products: dense, and by expert id.

use super::array::{Array, IntArray};

/// `y[.., n, m] = sum over k of weights[.., m, k] * x[.., n, k]`.
///
/// Both have the same rank. A batch axis of `weights` may be a divisor of that of `x`: each weight matrix then serves
/// that many neighbours (as KV heads serve groups of query heads), so 1 serves all.
pub fn matmul(weights: &Array, x: &Array) -> Array {
    assert_eq!(
        weights.rank(),
        x.rank(),
        "weights {:?} and x {:?} differ in rank",
        weights.shape,
        x.shape
    );
    let n_batch_axes = x.rank() - 2;
    let k = x.row_len();
    assert_eq!(
        weights.row_len(),
        k,
        "weights {:?} and x {:?} differ in k",
        weights.shape,
        x.shape
    );
    let mut group = Vec::new();
    for axis in 0..n_batch_axes {
        assert_eq!(
            x.shape[axis] % weights.shape[axis],
            0,
            "batch axis {axis}: {:?}, {:?}",
            weights.shape,
            x.shape
        );
        group.push(x.shape[axis] / weights.shape[axis]);
    }
    let mut shape = x.shape.clone();
    shape[n_batch_axes + 1] = weights.shape[n_batch_axes];
    if k == 0 {
        return Array::filled(&shape, 0.0);
    }
    Array::from_fn(&shape, |idx| {
        let mut x_idx = idx.to_vec();
        let mut w_idx: Vec<usize> = idx[..n_batch_axes]
            .iter()
            .zip(&group)
            .map(|(i, size)| i / size)
            .collect();
        w_idx.extend([idx[n_batch_axes + 1], 0]);
        x_idx[n_batch_axes + 1] = 0;
        dot(
            &weights.data[weights.offset(&w_idx)..][..k],
            &x.data[x.offset(&x_idx)..][..k],
        )
    })
}

/// `y[t, u, m] = sum over k of weights[ids[t, u], m, k] * x[t, u, k]`.
///
/// `weights` is `[E, m, k]`, `ids` `[T, n_used]`, `x` `[T, n_used, k]` or `[T, 1, k]` (one input for all experts).
pub fn matmul_id(weights: &Array, x: &Array, ids: &IntArray) -> Array {
    let (n_tokens, n_used) = (ids.shape[0], ids.shape[1]);
    let (m, k) = (weights.shape[1], weights.shape[2]);
    assert!(
        x.shape == [n_tokens, n_used, k] || x.shape == [n_tokens, 1, k],
        "x {:?} for ids {:?}",
        x.shape,
        ids.shape
    );
    Array::from_fn(&[n_tokens, n_used, m], |idx| {
        let expert_idx = ids.index_at(&idx[..2]);
        let x_row = if x.shape[1] == 1 { 0 } else { idx[1] };
        let w_start = weights.offset(&[expert_idx, idx[2], 0]);
        dot(
            &weights.data[w_start..][..k],
            &x.data[x.offset(&[idx[0], x_row, 0])..][..k],
        )
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
