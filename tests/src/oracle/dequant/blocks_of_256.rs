//! The K formats, 256 elements per block: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
//!
//! Every function says, for element `i`, where its bits and its scale are.

use super::f16_at;

/// 16 bytes of 4-bit scale and minimum per 16 elements, 64 bytes of quants, F16 scale and minimum of those.
pub(super) fn q2_k(block: &[u8]) -> Vec<f64> {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, d_min) = (f16_at(block, 80), f16_at(block, 82));
    (0..256)
        .map(|i| {
            let (scale, min) = (scales[i / 16] & 0xf, scales[i / 16] >> 4);
            d * f64::from(scale) * f64::from(two_bits(quants, i)) - d_min * f64::from(min)
        })
        .collect()
}

/// Two bits of element `i`: each half of 128 elements is 32 bytes, each quarter of a half two bits of those.
fn two_bits(quants: &[u8], i: usize) -> u8 {
    let (half, within) = (i / 128, i % 128);
    quants[32 * half + within % 32] >> (2 * (within / 32)) & 3
}

/// 32 bytes of third bits, 64 bytes of lower bits, 12 bytes of 6-bit scales, F16 scale of those.
pub(super) fn q3_k(block: &[u8]) -> Vec<f64> {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = f16_at(block, 108);
    (0..256)
        .map(|i| {
            let third = high[i % 32] >> (i / 32) & 1;
            let quant = f64::from(two_bits(quants, i) | third << 2) - 4.0;
            let s = i / 16;
            let low = if s < 8 {
                scales[s] & 0xf
            } else {
                scales[s - 8] >> 4
            };
            let scale = f64::from(low | (scales[8 + s % 4] >> (2 * (s / 4)) & 3) << 4) - 32.0;
            d * scale * quant
        })
        .collect()
}

/// F16 scale and minimum, 12 bytes of 6-bit scales and minimums, 128 bytes of nibbles.
pub(super) fn q4_k(block: &[u8]) -> Vec<f64> {
    let (d, d_min) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..144]);
    (0..256)
        .map(|i| {
            let (scale, min) = scale_and_min(scales, i / 32);
            d * scale * f64::from(nibble_of_64(quants, i)) - d_min * min
        })
        .collect()
}

/// As Q4_K with 32 bytes of fifth bits before the nibbles.
pub(super) fn q5_k(block: &[u8]) -> Vec<f64> {
    let (d, d_min) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, high, quants) = (&block[4..16], &block[16..48], &block[48..176]);
    (0..256)
        .map(|i| {
            let (scale, min) = scale_and_min(scales, i / 32);
            let fifth = high[i % 32] >> (i / 32) & 1;
            d * scale * f64::from(nibble_of_64(quants, i) | fifth << 4) - d_min * min
        })
        .collect()
}

/// Element `i` of nibbles in runs of 64 elements: 32 low nibbles, then the 32 high nibbles of the same bytes.
fn nibble_of_64(quants: &[u8], i: usize) -> u8 {
    let byte = quants[32 * (i / 64) + i % 32];
    if i % 64 < 32 { byte & 0xf } else { byte >> 4 }
}

/// Scale and minimum of group `g` of 8, six bits each in 12 bytes.
///
/// Groups 0..4 are the low six bits of bytes 0..4 (scale) and 4..8 (minimum). Groups 4..8 have their low four bits in
/// bytes 8..12 (scale low nibble, minimum high nibble) and their upper two in the spare bits of bytes 0..8.
fn scale_and_min(bytes: &[u8], g: usize) -> (f64, f64) {
    let (scale, min) = if g < 4 {
        (bytes[g] & 63, bytes[g + 4] & 63)
    } else {
        (
            bytes[g + 4] & 0xf | bytes[g - 4] >> 6 << 4,
            bytes[g + 4] >> 4 | bytes[g] >> 6 << 4,
        )
    };
    (scale.into(), min.into())
}

/// 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales, F16 scale; the quants are centred at 32.
pub(super) fn q6_k(block: &[u8]) -> Vec<f64> {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16_at(block, 208);
    (0..256)
        .map(|i| {
            let (half, within) = (i / 128, i % 128);
            let byte = low[64 * half + within % 64];
            let nibble = if within < 64 { byte & 0xf } else { byte >> 4 };
            let upper = high[32 * half + within % 32] >> (2 * (within / 32)) & 3;
            d * f64::from(scales[i / 16].cast_signed()) * (f64::from(nibble | upper << 4) - 32.0)
        })
        .collect()
}
