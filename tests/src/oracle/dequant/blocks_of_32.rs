//! Formats of 32 elements per block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, MXFP4.

use super::{f16_at, nibble};

/// F16 scale, 16 bytes of nibbles; the quants are centred at 8.
pub(super) fn q4_0(block: &[u8]) -> Vec<f64> {
    let d = f16_at(block, 0);
    (0..32)
        .map(|i| d * (f64::from(nibble(&block[2..], i)) - 8.0))
        .collect()
}

/// F16 scale, F16 minimum, 16 bytes of nibbles.
pub(super) fn q4_1(block: &[u8]) -> Vec<f64> {
    let (d, min) = (f16_at(block, 0), f16_at(block, 2));
    (0..32)
        .map(|i| d * f64::from(nibble(&block[4..], i)) + min)
        .collect()
}

/// F16 scale, 4 bytes with the fifth bits, 16 bytes of nibbles; the quants are centred at 16.
pub(super) fn q5_0(block: &[u8]) -> Vec<f64> {
    let d = f16_at(block, 0);
    (0..32)
        .map(|i| d * (five_bits(&block[2..], i) - 16.0))
        .collect()
}

/// F16 scale, F16 minimum, 4 bytes with the fifth bits, 16 bytes of nibbles.
pub(super) fn q5_1(block: &[u8]) -> Vec<f64> {
    let (d, min) = (f16_at(block, 0), f16_at(block, 2));
    (0..32)
        .map(|i| d * five_bits(&block[4..], i) + min)
        .collect()
}

/// Element `i` of 4 bytes of fifth bits and 16 bytes of nibbles; bit `i` belongs to element `i`.
fn five_bits(bytes: &[u8], i: usize) -> f64 {
    let fifth = bytes[i / 8] >> (i % 8) & 1;
    f64::from(nibble(&bytes[4..], i) | fifth << 4)
}

/// F16 scale, 32 signed bytes.
pub(super) fn q8_0(block: &[u8]) -> Vec<f64> {
    let d = f16_at(block, 0);
    (0..32)
        .map(|i| d * f64::from(block[2 + i].cast_signed()))
        .collect()
}

/// Magnitudes of the 3-bit part of E2M1.
const E2M1: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// One E8M0 scale (a power of two, bias 127), 16 bytes of E2M1 nibbles (OCP microscaling formats 1.0).
pub(super) fn mxfp4(block: &[u8]) -> Vec<f64> {
    let d = 2f64.powi(i32::from(block[0]) - 127);
    (0..32)
        .map(|i| {
            let code = nibble(&block[1..], i);
            let magnitude = E2M1[usize::from(code & 7)];
            d * if code & 8 == 0 { magnitude } else { -magnitude }
        })
        .collect()
}
