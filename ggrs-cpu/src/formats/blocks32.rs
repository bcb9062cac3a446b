//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 elements with one F16 scale (and minimum) each.
//!
//! Layouts and rounding follow ggml's `block_q*` structs and reference quantisers. In the 4-bit formats byte `j` holds
//! elements `j` (low half) and `j + 16` (high half); bit `j` of the 5-bit formats' `qh` is element `j`'s fifth bit.

use half::f16;

/// The F16 at byte `at` of a block. `at` is a constant of the layout.
pub(super) fn half_at<const N: usize>(block: &[u8; N], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Rounds `value` to F16 and stores it at byte `at` of a block.
pub(super) fn put_half<const N: usize>(block: &mut [u8; N], at: usize, value: f32) {
    let [low, high] = f16::from_f32(value).to_le_bytes();
    block[at] = low;
    block[at + 1] = high;
}

/// Pairs the blocks of `BYTES` bytes with their 32 elements.
fn blocks<'a, const BYTES: usize>(
    bytes: &'a [u8],
    out: &'a mut [f32],
) -> impl Iterator<Item = (&'a [u8; BYTES], &'a mut [f32; 32])> {
    bytes
        .as_chunks::<BYTES>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<32>().0)
}

/// Pairs 32 elements with their block of `BYTES` bytes.
fn blocks_mut<'a, const BYTES: usize>(
    values: &'a [f32],
    bytes: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; 32], &'a mut [u8; BYTES])> {
    values
        .as_chunks::<32>()
        .0
        .iter()
        .zip(bytes.as_chunks_mut::<BYTES>().0)
}

pub(super) fn read_q4_0(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<18>(bytes, out) {
        let d = half_at(block, 0);
        for j in 0..16 {
            let q = block[2 + j];
            xs[j] = (i32::from(q & 15) - 8) as f32 * d;
            xs[j + 16] = (i32::from(q >> 4) - 8) as f32 * d;
        }
    }
}

pub(super) fn read_q4_1(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<20>(bytes, out) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        for j in 0..16 {
            let q = block[4 + j];
            xs[j] = f32::from(q & 15) * d + m;
            xs[j + 16] = f32::from(q >> 4) * d + m;
        }
    }
}

/// The two 5-bit numbers of byte `j`: the halves of `q`, each with its bit of `qh` on top.
fn five_bits(q: u8, qh: u32, j: usize) -> (u8, u8) {
    let low = (q & 15) | ((((qh >> j) & 1) as u8) << 4);
    let high = (q >> 4) | ((((qh >> (j + 16)) & 1) as u8) << 4);
    (low, high)
}

pub(super) fn read_q5_0(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<22>(bytes, out) {
        let d = half_at(block, 0);
        let qh = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        for j in 0..16 {
            let (low, high) = five_bits(block[6 + j], qh, j);
            xs[j] = (i32::from(low) - 16) as f32 * d;
            xs[j + 16] = (i32::from(high) - 16) as f32 * d;
        }
    }
}

pub(super) fn read_q5_1(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<24>(bytes, out) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let qh = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        for j in 0..16 {
            let (low, high) = five_bits(block[8 + j], qh, j);
            xs[j] = f32::from(low) * d + m;
            xs[j + 16] = f32::from(high) * d + m;
        }
    }
}

pub(super) fn read_q8_0(bytes: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<34>(bytes, out) {
        let d = half_at(block, 0);
        for j in 0..32 {
            xs[j] = f32::from(block[2 + j].cast_signed()) * d;
        }
    }
}

/// The value of largest magnitude, with its sign; the first one where several are equal.
pub(super) fn extreme(xs: &[f32; 32]) -> f32 {
    xs.iter().fold(
        0.0,
        |best: f32, &x| if x.abs() > best.abs() { x } else { best },
    )
}

/// The smallest and the largest value.
fn bounds(xs: &[f32; 32]) -> (f32, f32) {
    xs.iter().fold((f32::MAX, f32::MIN), |(min, max), &x| {
        (if x < min { x } else { min }, if x > max { x } else { max })
    })
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

pub(super) fn write_q4_0(values: &[f32], bytes: &mut [u8]) {
    for (xs, block) in blocks_mut::<18>(values, bytes) {
        let d = extreme(xs) / -8.0;
        let id = inverse(d);
        put_half(block, 0, d);
        let level = |x: f32| ((x * id + 8.5) as u8).min(15);
        for j in 0..16 {
            block[2 + j] = level(xs[j]) | (level(xs[j + 16]) << 4);
        }
    }
}

pub(super) fn write_q4_1(values: &[f32], bytes: &mut [u8]) {
    for (xs, block) in blocks_mut::<20>(values, bytes) {
        let (min, max) = bounds(xs);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        put_half(block, 0, d);
        put_half(block, 2, min);
        let level = |x: f32| (((x - min) * id + 0.5) as u8).min(15);
        for j in 0..16 {
            block[4 + j] = level(xs[j]) | (level(xs[j + 16]) << 4);
        }
    }
}

/// Stores 32 5-bit levels: `qh` at byte `at`, the low halves after it.
fn put_five_bits<const N: usize>(block: &mut [u8; N], at: usize, level: impl Fn(usize) -> u8) {
    let mut qh = 0_u32;
    for j in 0..16 {
        let (low, high) = (level(j), level(j + 16));
        block[at + 4 + j] = (low & 15) | ((high & 15) << 4);
        qh |= u32::from(low >> 4) << j;
        qh |= u32::from(high >> 4) << (j + 16);
    }
    block[at..at + 4].copy_from_slice(&qh.to_le_bytes());
}

pub(super) fn write_q5_0(values: &[f32], bytes: &mut [u8]) {
    for (xs, block) in blocks_mut::<22>(values, bytes) {
        let d = extreme(xs) / -16.0;
        let id = inverse(d);
        put_half(block, 0, d);
        put_five_bits(block, 2, |j| ((xs[j] * id + 16.5) as u8).min(31));
    }
}

pub(super) fn write_q5_1(values: &[f32], bytes: &mut [u8]) {
    for (xs, block) in blocks_mut::<24>(values, bytes) {
        let (min, max) = bounds(xs);
        let d = (max - min) / 31.0;
        let id = inverse(d);
        put_half(block, 0, d);
        put_half(block, 2, min);
        put_five_bits(block, 4, |j| (((xs[j] - min) * id + 0.5) as u8).min(31));
    }
}

/// `x` rounded to the nearest integer, halves away from zero (C's `roundf`), for |x| < 2^31.
fn round_away(x: f32) -> i32 {
    let whole = x as i32;
    let rest = x - whole as f32;
    whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}

pub(super) fn write_q8_0(values: &[f32], bytes: &mut [u8]) {
    for (xs, block) in blocks_mut::<34>(values, bytes) {
        let magnitude = xs.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let d = magnitude / 127.0;
        let id = inverse(d);
        put_half(block, 0, d);
        for j in 0..32 {
            block[2 + j] = (round_away(xs[j] * id) as i8).cast_unsigned();
        }
    }
}
