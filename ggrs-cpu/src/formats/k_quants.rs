//! Q2_K to Q6_K: super-blocks of 256 elements with integer scales (and minimums) for each 16 or 32, and F16 factors.
//!
//! Layouts follow ggml's `block_q*_K` structs. Read only: GGRS writes none of them.

use super::blocks32::half_at;

/// Pairs the super-blocks of `BYTES` bytes with their 256 elements.
fn blocks<'a, const BYTES: usize>(
    bytes: &'a [u8],
    out: &'a mut [f32],
) -> impl Iterator<Item = (&'a [u8; BYTES], &'a mut [f32; 256])> {
    bytes
        .as_chunks::<BYTES>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<256>().0)
}

/// Element `e` of 256 two-bit numbers: each run of 128 elements is 32 bytes, its four runs of 32 in successive bit pairs.
fn two_bits(qs: &[u8], e: usize) -> u8 {
    let byte = qs[32 * (e / 128) + e % 32];
    (byte >> (2 * (e / 32 % 4))) & 3
}

pub(super) fn read_q2_k(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<84>(bytes, out) {
        let (d, dmin) = (half_at(block, 80), half_at(block, 82));
        for (e, x) in xs.iter_mut().enumerate() {
            let scale = block[e / 16];
            let dl = d * f32::from(scale & 15);
            let ml = dmin * f32::from(scale >> 4);
            *x = dl * f32::from(two_bits(&block[16..80], e)) - ml;
        }
    }
}

/// The 16 six-bit scales of Q3_K: low halves in bytes 0..8, upper bit pairs in bytes 8..12; stored with 32 added.
fn q3_k_scales(packed: &[u8]) -> [i32; 16] {
    let mut scales = [0; 16];
    for (g, scale) in scales.iter_mut().enumerate() {
        let low = (packed[g % 8] >> (4 * (g / 8))) & 15;
        let high = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
        *scale = i32::from(low | (high << 4)) - 32;
    }
    scales
}

pub(super) fn read_q3_k(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<110>(bytes, out) {
        let d = half_at(block, 108);
        let scales = q3_k_scales(&block[96..108]);
        for (e, x) in xs.iter_mut().enumerate() {
            let third = (block[e % 32] >> (e / 32)) & 1;
            let q = i32::from(two_bits(&block[32..96], e) | (third << 2)) - 4;
            *x = d * scales[e / 16] as f32 * q as f32;
        }
    }
}

/// The eight pairs (scale, minimum) of six bits in the 12 bytes of Q4_K and Q5_K.
fn scales_and_minimums(packed: &[u8]) -> [(u8, u8); 8] {
    let mut pairs = [(0, 0); 8];
    for (g, pair) in pairs.iter_mut().enumerate() {
        *pair = if g < 4 {
            (packed[g] & 63, packed[g + 4] & 63)
        } else {
            let (low, scale, minimum) = (packed[g + 4], packed[g - 4], packed[g]);
            (
                (low & 15) | ((scale >> 6) << 4),
                (low >> 4) | ((minimum >> 6) << 4),
            )
        };
    }
    pairs
}

/// Element `e` of 256 four-bit numbers: each run of 64 elements is 32 bytes, first the low halves, then the high ones.
fn four_bits(qs: &[u8], e: usize) -> u8 {
    (qs[32 * (e / 64) + e % 32] >> (4 * (e / 32 % 2))) & 15
}

pub(super) fn read_q4_k(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<144>(bytes, out) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let pairs = scales_and_minimums(&block[4..16]);
        for (e, x) in xs.iter_mut().enumerate() {
            let (scale, minimum) = pairs[e / 32];
            let q = four_bits(&block[16..144], e);
            *x = d * f32::from(scale) * f32::from(q) - dmin * f32::from(minimum);
        }
    }
}

pub(super) fn read_q5_k(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<176>(bytes, out) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let pairs = scales_and_minimums(&block[4..16]);
        for (e, x) in xs.iter_mut().enumerate() {
            let (scale, minimum) = pairs[e / 32];
            let fifth = (block[16 + e % 32] >> (e / 32)) & 1;
            let q = four_bits(&block[48..176], e) | (fifth << 4);
            *x = d * f32::from(scale) * f32::from(q) - dmin * f32::from(minimum);
        }
    }
}

pub(super) fn read_q6_k(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<210>(bytes, out) {
        let d = half_at(block, 208);
        for (e, x) in xs.iter_mut().enumerate() {
            // Each run of 128 elements: 64 bytes of low halves (elements 0..64 in the low bits), 32 bytes of bit pairs.
            let (run, within) = (e / 128, e % 128);
            let low = (block[64 * run + within % 64] >> (4 * (within / 64))) & 15;
            let high = two_bits(&block[128..192], e);
            let q = i32::from(low | (high << 4)) - 32;
            let scale = block[192 + e / 16].cast_signed();
            *x = d * f32::from(scale) * q as f32;
        }
    }
}
