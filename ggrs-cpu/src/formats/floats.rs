//! F32, F16 and BF16 rows as little-endian bytes.
//!
//! Lengths are checked by the caller; what does not pair up is left alone.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

pub(super) fn read_f32(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *x = f32::from_le_bytes(*b);
    }
}

pub(super) fn write_f32(values: &[f32], bytes: &mut [u8]) {
    for (x, b) in values.iter().zip(bytes.as_chunks_mut::<4>().0) {
        *b = x.to_le_bytes();
    }
}

/// Elements that are converted between two trips to the buffer on the stack.
const STEP: usize = 64;

/// The processor's own conversion (F16C) where it has one; the buffer makes the bytes' alignment irrelevant.
pub(super) fn read_f16(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; STEP];
    for (xs, bs) in out.chunks_mut(STEP).zip(bytes.chunks(2 * STEP)) {
        for (h, b) in halves.iter_mut().zip(bs.as_chunks::<2>().0) {
            *h = f16::from_le_bytes(*b);
        }
        if let Some(halves) = halves.get(..xs.len()) {
            halves.convert_to_f32_slice(xs);
        }
    }
}

/// Rounds to nearest, ties to even.
pub(super) fn write_f16(values: &[f32], bytes: &mut [u8]) {
    let mut halves = [f16::ZERO; STEP];
    for (xs, bs) in values.chunks(STEP).zip(bytes.chunks_mut(2 * STEP)) {
        if let Some(halves) = halves.get_mut(..xs.len()) {
            halves.convert_from_f32_slice(xs);
        }
        for (h, b) in halves.iter().zip(bs.as_chunks_mut::<2>().0) {
            *b = h.to_le_bytes();
        }
    }
}

pub(super) fn read_bf16(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
    }
}

/// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
pub(super) fn write_bf16(values: &[f32], bytes: &mut [u8]) {
    for (x, b) in values.iter().zip(bytes.as_chunks_mut::<2>().0) {
        let bits = x.to_bits();
        let rounded = if x.is_nan() {
            (bits >> 16) | 0x40
        } else {
            // No overflow: the largest value that is not a NaN is 0xff80_0000.
            (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
        };
        *b = (rounded as u16).to_le_bytes();
    }
}
