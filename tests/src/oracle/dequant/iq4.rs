//! The formats whose four bits index a fixed non-linear table: IQ4_NL and IQ4_XS.

use super::{f16_at, nibble};

/// The sixteen values (ggml's `kvalues_iq4nl`).
const VALUES: [f64; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// F16 scale, 16 bytes of nibbles: 32 elements.
pub(super) fn iq4_nl(block: &[u8]) -> Vec<f64> {
    let d = f16_at(block, 0);
    (0..32)
        .map(|i| d * VALUES[usize::from(nibble(&block[2..], i))])
        .collect()
}

/// F16 scale, 2 bytes with the upper bits and 4 with the lower nibbles of eight 6-bit scales, then eight runs of 16
/// bytes of nibbles: 256 elements.
pub(super) fn iq4_xs(block: &[u8]) -> Vec<f64> {
    let d = f16_at(block, 0);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    let (lower, quants) = (&block[4..8], &block[8..136]);
    (0..256)
        .map(|i| {
            let group = i / 32;
            let low = lower[group / 2] >> (4 * (group % 2)) & 0xf;
            let high = upper >> (2 * group) & 3;
            let scale = f64::from(u16::from(low) | high << 4) - 32.0;
            d * scale * VALUES[usize::from(nibble(&quants[16 * group..], i % 32))]
        })
        .collect()
}
