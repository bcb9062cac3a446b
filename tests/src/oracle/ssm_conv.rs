//! The short causal convolution of recurrent layers.

use super::array::Array;

/// `y[s, t, c] = sum over i of x[s, c, t + i] * weights[c, i]`: depthwise, no bias.
///
/// `x` is `[S, C, d_conv - 1 + T]` (the last `d_conv - 1` inputs of the step before, then the new ones), `weights`
/// `[C, d_conv]`; the result is `[S, T, C]`.
pub fn ssm_conv(x: &Array, weights: &Array) -> Array {
    let (n_seqs, n_channels) = (x.shape[0], x.shape[1]);
    let d_conv = weights.shape[1];
    assert_eq!(weights.shape[0], n_channels, "one filter per channel");
    let n_tokens = x.shape[2] + 1 - d_conv;
    Array::from_fn(&[n_seqs, n_tokens, n_channels], |idx| {
        let mut total = 0.0;
        for i in 0..d_conv {
            total += x.at(&[idx[0], idx[2], idx[1] + i]) * weights.at(&[idx[2], i]);
        }
        total
    })
}
