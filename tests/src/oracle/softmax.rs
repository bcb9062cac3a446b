//! Softmax over the last axis with scale, additive mask and attention sinks.

use super::array::Array;
use super::layout::broadcast;

/// Softmax of `x * factor + mask` over the last axis.
///
/// `x` is `[.., H, T, C]` when there are sinks, any shape otherwise. `mask` broadcasts to `x`. `sinks` is `[H]`: one
/// more logit per head that takes its share of the sum and has no column. A row whose logits are all `-inf` is zero.
pub fn softmax(x: &Array, factor: f64, mask: Option<&Array>, sinks: Option<&Array>) -> Array {
    let mask = mask.map(|mask| broadcast(mask, &x.shape));
    let mut logits = Array::from_fn(&x.shape, |idx| {
        factor * x.at(idx) + mask.as_ref().map_or(0.0, |mask| mask.at(idx))
    });
    if logits.data.is_empty() {
        return logits;
    }
    for (row_idx, row) in logits.data.chunks_mut(x.row_len()).enumerate() {
        let sink = sinks.map(|sinks| {
            let (n_heads, n_tokens) = (x.shape[x.rank() - 3], x.shape[x.rank() - 2]);
            assert_eq!(sinks.shape, [n_heads], "one sink per head");
            sinks.data[row_idx / n_tokens % n_heads]
        });
        softmax_row(row, sink);
    }
    logits
}

/// Softmax of one row in place; the sink only widens the sum.
pub(super) fn softmax_row(row: &mut [f64], sink: Option<f64>) {
    let max = row
        .iter()
        .copied()
        .chain(sink)
        .fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    let total: f64 = row
        .iter()
        .copied()
        .chain(sink)
        .map(|v| (v - max).exp())
        .sum();
    for v in row {
        *v = (*v - max).exp() / total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_row_is_zero_and_a_sink_takes_its_share() {
        let x = Array::filled(&[1, 1, 2], 1.0);
        let masked = Array::filled(&[1, 2], f64::NEG_INFINITY);
        assert_eq!(softmax(&x, 1.0, Some(&masked), None).data, [0.0, 0.0]);
        let sink = Array::new(&[1], vec![1.0 + 2f64.ln()]);
        for p in softmax(&x, 1.0, None, Some(&sink)).data {
            assert!((p - 0.25).abs() < 1e-15);
        }
    }
}
