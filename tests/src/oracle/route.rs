//! Mixture-of-experts routing: which experts a token uses, and with which weights.

use super::array::{Array, IntArray};
use super::elementwise::{UnaryKind, unary};
use super::order::top_k;
use super::softmax::softmax;

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each expert alone.
    Sigmoid,
}

/// The smallest sum that renormalisation divides by: 2^-14, the smallest normal F16.
const MIN_WEIGHT_SUM: f64 = 6.103_515_625e-5;

/// Weights and ids of the `n_used` best experts of every token, best first: both `[T, n_used]`, from logits `[T, E]`.
///
/// With `normalise` the chosen weights are divided by their sum, or by 6.1035e-5 if that is larger. All are multiplied
/// by `factor` at the end.
pub fn route_experts(
    logits: &Array,
    gating: Gating,
    n_used: usize,
    normalise: bool,
    factor: f64,
) -> (Array, IntArray) {
    let probs = match gating {
        Gating::Softmax => softmax(logits, 1.0, None, None),
        Gating::Sigmoid => unary(UnaryKind::Sigmoid, logits),
    };
    let (mut weights, ids) = top_k(&probs, n_used);
    if normalise {
        weights = weights.map_rows(|row| {
            let total = row.iter().sum::<f64>().max(MIN_WEIGHT_SUM);
            row.iter().map(|w| w / total).collect()
        });
    }
    (weights.map(|w| w * factor), ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renormalised_softmax_is_a_softmax_of_the_chosen() {
        let logits = Array::new(&[1, 4], vec![0.0, 3f64.ln(), -9.0, 0.0]);
        let (weights, ids) = route_experts(&logits, Gating::Softmax, 2, true, 1.0);
        assert_eq!(ids.data, [1, 0]);
        assert!((weights.data[0] - 0.75).abs() < 1e-15 && (weights.data[1] - 0.25).abs() < 1e-15);
    }

    #[test]
    fn a_vanishing_sum_is_not_blown_up() {
        let logits = Array::filled(&[1, 2], -30.0);
        let (weights, _) = route_experts(&logits, Gating::Sigmoid, 1, true, 1.0);
        assert!(weights.data[0] < 2e-9);
    }
}
