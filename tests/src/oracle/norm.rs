//! Normalisations of the last axis. Weights and biases are separate multiplications and additions.

use super::array::Array;

/// `x / sqrt(mean(x^2) + eps)`.
pub fn rms_norm(x: &Array, eps: f64) -> Array {
    x.map_rows(|row| {
        let mean_square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        row.iter().map(|v| v / (mean_square + eps).sqrt()).collect()
    })
}

/// `(x - mean) / sqrt(variance + eps)`, with the population variance.
pub fn layer_norm(x: &Array, eps: f64) -> Array {
    x.map_rows(|row| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / row.len() as f64;
        row.iter()
            .map(|v| (v - mean) / (variance + eps).sqrt())
            .collect()
    })
}

/// `x / max(sqrt(sum(x^2)), eps)`.
pub fn l2_norm(x: &Array, eps: f64) -> Array {
    x.map_rows(|row| {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter().map(|v| v / length.max(eps)).collect()
    })
}
