//! Rows of any float or block format as F32, fast for the formats that caches and activations have.
//!
//! The meaning of the formats is `formats`'; the fast paths here give the same bits.

use ggrs_core::DType;

use super::lanes::{Lanes, Task, dispatch};
use crate::formats::{FormatError, dequantize_row};
use crate::isa::Isa;

/// Bytes of a Q8_0 block: an F16 scale, 32 signed bytes.
const Q8_0_BYTES: usize = 34;
/// Bytes of a Q4_0 block: an F16 scale, 16 bytes of which the low halves come first; 8 stands for 0.
const Q4_0_BYTES: usize = 18;
/// Elements of a block of either.
const BLOCK: usize = 32;

/// F16 or BF16 as a vector.
#[inline(always)]
fn read_halves<L: Lanes, const BF16: bool>(lanes: L, bytes: &[u8], out: &mut [f32]) {
    let (halves, _) = bytes.as_chunks::<2>();
    for (from, to) in halves.chunks(L::N).zip(out.chunks_mut(L::N)) {
        let x = if BF16 {
            lanes.load_bf16(from)
        } else {
            lanes.load_f16(from)
        };
        lanes.store(x, to);
    }
}

/// The scale at the start of a block.
#[inline(always)]
fn block_scale<L: Lanes>(lanes: L, block: &[u8]) -> L::Floats {
    let (halves, _) = block.as_chunks::<2>();
    let mut scale = [0.0];
    lanes.store(
        lanes.load_f16(halves.get(..1).unwrap_or_default()),
        &mut scale,
    );
    lanes.splat(scale[0])
}

#[inline(always)]
fn read_q8_0<L: Lanes>(lanes: L, bytes: &[u8], out: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q8_0_BYTES>();
    for (block, out) in blocks.iter().zip(out.chunks_mut(BLOCK)) {
        let scale = block_scale(lanes, block);
        for (from, to) in block[2..].chunks(L::N).zip(out.chunks_mut(L::N)) {
            lanes.store(lanes.mul(scale, lanes.load_i8(from)), to);
        }
    }
}

#[inline(always)]
fn read_q4_0<L: Lanes>(lanes: L, bytes: &[u8], out: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4_0_BYTES>();
    let eight = lanes.splat(8.0);
    for (block, out) in blocks.iter().zip(out.chunks_mut(BLOCK)) {
        let scale = block_scale(lanes, block);
        let (low, high) = out.split_at_mut(out.len().min(BLOCK / 2));
        for (from, to) in block[2..].chunks(L::N).zip(low.chunks_mut(L::N)) {
            let x = lanes.sub(lanes.load_low_nibbles(from), eight);
            lanes.store(lanes.mul(scale, x), to);
        }
        for (from, to) in block[2..].chunks(L::N).zip(high.chunks_mut(L::N)) {
            let x = lanes.sub(lanes.load_high_nibbles(from), eight);
            lanes.store(lanes.mul(scale, x), to);
        }
    }
}

/// Reads a gapless row as F32; for formats without a fast path says so and does nothing.
#[inline(always)]
fn read_row_lanes<L: Lanes>(lanes: L, dtype: DType, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        DType::F32 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        DType::F16 => read_halves::<L, false>(lanes, bytes, out),
        DType::BF16 => read_halves::<L, true>(lanes, bytes, out),
        DType::Q8_0 => read_q8_0(lanes, bytes, out),
        DType::Q4_0 => read_q4_0(lanes, bytes, out),
        _ => return false,
    }
    true
}

struct ReadRow<'a> {
    dtype: DType,
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Task for ReadRow<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        read_row_lanes(lanes, self.dtype, self.bytes, self.out)
    }
}

/// Reads a gapless row of any float or block format as F32, with the bits of [`dequantize_row`].
///
/// # Errors
/// As [`dequantize_row`]: an integer dtype, a row that does not end on a block, `bytes` of another length than `out`
/// needs.
pub fn read_row(isa: Isa, dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), FormatError> {
    let fits = dtype.row_bytes(out.len()) == Some(bytes.len());
    if fits && dispatch(isa, ReadRow { dtype, bytes, out }) {
        return Ok(());
    }
    dequantize_row(dtype, bytes, out)
}

struct ReadRows<'a, R> {
    dtype: DType,
    row: R,
    out: &'a mut [f32],
    stride: usize,
    width: usize,
}

impl<'r, R: Fn(usize) -> &'r [u8]> Task for ReadRows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (i, out) in self.out.chunks_mut(self.stride.max(1)).enumerate() {
            if let Some(out) = out.get_mut(..self.width) {
                read_row_lanes(lanes, self.dtype, (self.row)(i), out);
            }
        }
    }
}

/// Reads gapless rows of `width` elements, of one of the formats that caches have, to rows `stride` apart.
pub(crate) fn read_cache_rows<'r>(
    isa: Isa,
    dtype: DType,
    row: impl Fn(usize) -> &'r [u8],
    width: usize,
    (out, stride): (&mut [f32], usize),
) {
    dispatch(
        isa,
        ReadRows {
            dtype,
            row,
            out,
            stride,
            width,
        },
    );
}
