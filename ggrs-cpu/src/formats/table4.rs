//! IQ4_NL, IQ4_XS and MXFP4: four-bit numbers that index a fixed table of sixteen values.
//!
//! Tables and layouts follow ggml (`kvalues_iq4nl`, `kvalues_mxfp4`, `block_iq4_*`, `block_mxfp4`) and, for MXFP4, the
//! OCP microscaling formats (E2M1 elements, E8M0 scale).

use super::blocks32::{extreme, half_at, put_half};

/// The values of IQ4_NL and IQ4_XS.
pub(crate) const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of E2M1, so that they are integers; [`e8m0_half`] takes the factor back.
pub(crate) const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the E8M0 scale `e`, that is 2^(e - 128).
pub(crate) fn e8m0_half(e: u8) -> f32 {
    let bits = if e < 2 {
        0x0020_0000 << e
    } else {
        (u32::from(e) - 1) << 23
    };
    f32::from_bits(bits)
}

/// Sixteen bytes to 32 values: low halves first, then high ones.
fn read_halves(qs: &[u8], table: &[i8; 16], d: f32, xs: &mut [f32; 32]) {
    for (j, q) in qs.iter().take(16).enumerate() {
        xs[j] = d * f32::from(table[usize::from(q & 15)]);
        xs[j + 16] = d * f32::from(table[usize::from(q >> 4)]);
    }
}

pub(super) fn read_iq4_nl(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in bytes
        .as_chunks::<18>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<32>().0)
    {
        read_halves(&block[2..], &IQ4_VALUES, half_at(block, 0), xs);
    }
}

pub(super) fn read_mxfp4(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in bytes
        .as_chunks::<17>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<32>().0)
    {
        read_halves(&block[1..], &E2M1_DOUBLED, e8m0_half(block[0]), xs);
    }
}

pub(super) fn read_iq4_xs(bytes: &[u8], out: &mut [f32]) {
    for (block, elements) in bytes
        .as_chunks::<136>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<256>().0)
    {
        let d = half_at(block, 0);
        let scales_high = u16::from_le_bytes([block[2], block[3]]);
        for (g, xs) in elements.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = (block[4 + g / 2] >> (4 * (g % 2))) & 15;
            let high = ((scales_high >> (2 * g)) & 3) as u8;
            let scale = i32::from(low | (high << 4)) - 32;
            read_halves(
                &block[8 + 16 * g..24 + 16 * g],
                &IQ4_VALUES,
                d * scale as f32,
                xs,
            );
        }
    }
}

/// The index of the table's value next to `x`; the upper one where `x` lies in the middle.
fn nearest_iq4(x: f32) -> u8 {
    let mut upper = 0;
    while upper < 15 && x >= f32::from(IQ4_VALUES[upper]) {
        upper += 1;
    }
    let lower = upper.saturating_sub(1);
    let (below, above) = (f32::from(IQ4_VALUES[lower]), f32::from(IQ4_VALUES[upper]));
    (if x - below < above - x { lower } else { upper }) as u8
}

pub(super) fn write_iq4_nl(values: &[f32], bytes: &mut [u8]) {
    /// Blocks smaller than this are written as zeros.
    const NEGLIGIBLE: f32 = 1e-15;
    for (xs, block) in values
        .as_chunks::<32>()
        .0
        .iter()
        .zip(bytes.as_chunks_mut::<18>().0)
    {
        *block = [0; 18];
        let max = extreme(xs);
        if max.abs() < NEGLIGIBLE {
            continue;
        }
        let inverse = 1.0 / (max / f32::from(IQ4_VALUES[0]));
        let levels = xs.map(|x| nearest_iq4(inverse * x));
        // The scale that minimises the error weighted by x^2, for these levels.
        let (mut qx, mut qq) = (0.0_f32, 0.0_f32);
        for (x, level) in xs.iter().zip(levels) {
            let q = f32::from(IQ4_VALUES[usize::from(level & 15)]);
            let weight = x * x;
            qx += weight * q * x;
            qq += weight * q * q;
        }
        put_half(block, 0, qx / qq);
        for j in 0..16 {
            block[2 + j] = levels[j] | (levels[j + 16] << 4);
        }
    }
}
