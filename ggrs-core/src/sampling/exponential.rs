//! An exponential function with the same bits on every platform, so that a seed gives the same
//! text everywhere. (The standard library's is the system's, whose last bit differs.)

use std::f64::consts::LOG2_E;

/// `exp(x)` for `x` up to 0, within two units in the last place; 0 below -708.
pub(super) fn exp_of_non_positive(x: f64) -> f64 {
    /// ln 2 in two parts; the first has so few bits that `halvings * LN_2_HIGH` is exact.
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

    if x < -708.0 {
        return 0.0;
    }
    // x = rest - halvings * ln 2, so that exp(x) = exp(rest) / 2^halvings, with |rest| < 0.35.
    let halvings = (-x * LOG2_E + 0.5) as u64;
    let rest = (x + halvings as f64 * LN_2_HIGH) + halvings as f64 * LN_2_LOW;
    let exp_of_rest = INVERSE_FACTORIALS
        .iter()
        .rev()
        .fold(0.0, |sum, inverse| sum * rest + inverse);
    // 2^-halvings by its bits; halvings is at most 1021.
    exp_of_rest * f64::from_bits((1023 - halvings) << 52)
}

/// The coefficients of the Taylor series of `exp`. What it leaves out is below 5e-18 of its value.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut coefficients = [1.0; 14];
    let (mut n, mut factorial) = (1, 1.0);
    while n < coefficients.len() {
        factorial *= n as f64;
        coefficients[n] = 1.0 / factorial;
        n += 1;
    }
    coefficients
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        let mut x = 0.0_f64;
        while x > -700.0 {
            let (ours, theirs) = (exp_of_non_positive(x), x.exp());
            assert!((ours / theirs - 1.0).abs() < 5e-16, "{x}: {ours} {theirs}");
            x -= 0.000_731 * (1.0 - x);
        }
        assert_eq!(exp_of_non_positive(-0.0), 1.0);
        assert_eq!(exp_of_non_positive(-1e9), 0.0);
        assert_eq!(exp_of_non_positive(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn the_bits_are_fixed() {
        // Computed by the same operations in CPython.
        for (x, bits) in [
            (-0.1, 0x3fec_f46d_99d5_2b3a_u64),
            (-1.0, 0x3fd7_8b56_362c_ef38_u64),
            (-12.5, 0x3ecf_42ed_3f68_e690_u64),
            (-700.0, 0x00d1_4f2b_0fb9_307f_u64),
        ] {
            assert_eq!(exp_of_non_positive(x).to_bits(), bits, "{x}");
        }
    }
}
