//! The F32 product: some tiles of F32, F16 or BF16 weights times some columns of F32 activations.

#![allow(
    clippy::needless_range_loop,
    reason = "tile and column numbers index several arrays side by side"
)]

use super::lanes::Lanes;
use super::product::{Operands, Results};
use crate::pack::TILE_ROWS;

/// A scalar float format, packed: 16 rows of one element side by side.
pub(super) trait FloatFormat {
    /// Bytes of an element.
    const BYTES: usize;

    /// The element of 16 rows as F32, exactly.
    ///
    /// # Safety
    /// The level of `V` exists and `from` is readable for 16 elements.
    unsafe fn load<V: Lanes>(from: *const u8) -> V::Floats;
}

pub(super) struct F32;
impl FloatFormat for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { V::load(from).as_floats() }
    }
}

pub(super) struct F16;
impl FloatFormat for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { V::load_halves(from) }
    }
}

pub(super) struct Bf16;
impl FloatFormat for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { V::load_u16(from).shl(16).as_floats() }
    }
}

/// Elements whose products are summed before they are added to the total: it keeps the rounding error of long rows small.
const PART: usize = 256;

/// How far ahead of the multiplication the weights are asked for, in bytes.
const PREFETCH_BYTES: usize = 6144;

/// Multiplies `T` tiles by `C` columns over the whole of k, in `RUNS` interleaved sums, so that the additions' latency is
/// hidden where tiles and columns are few.
///
/// # Safety
/// The level of `V` exists; the first `T` tiles of `operands` are packed tiles of format `F` with `n_blocks` elements in
/// a row, its first `C` columns are as many F32 values.
#[inline(always)]
pub(super) unsafe fn multiply<
    V: Lanes,
    F: FloatFormat,
    const T: usize,
    const C: usize,
    const RUNS: usize,
>(
    operands: &Operands,
    results: &mut Results,
) {
    // SAFETY: the caller's promise; every index below is smaller than `n_blocks`.
    unsafe {
        let one = V::splat_float(1.0);
        let mut sums = [[V::splat_float(0.0); C]; T];
        let mut start = 0;
        while start < operands.n_blocks {
            let end = operands.n_blocks.min(start + PART);
            let mut runs = [[[V::splat_float(0.0); C]; T]; RUNS];
            let mut i = start;
            while i + RUNS <= end {
                for r in 0..RUNS {
                    add_element::<V, F, T, C>(operands, i + r, &mut runs[r]);
                }
                i += RUNS;
            }
            while i < end {
                add_element::<V, F, T, C>(operands, i, &mut runs[0]);
                i += 1;
            }
            for run in runs {
                for t in 0..T {
                    for c in 0..C {
                        sums[t][c] = V::mul_add(run[t][c], one, sums[t][c]);
                    }
                }
            }
            start = end;
        }
        for t in 0..T {
            for c in 0..C {
                V::store(sums[t][c], results[t][c].as_mut_ptr());
            }
        }
    }
}

/// Adds the products of element `i` of every row and column.
#[inline(always)]
unsafe fn add_element<V: Lanes, F: FloatFormat, const T: usize, const C: usize>(
    operands: &Operands,
    i: usize,
    sums: &mut [[V::Floats; C]; T],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        let mut weights = [V::splat_float(0.0); T];
        for t in 0..T {
            let at = operands.tiles[t].add(i * TILE_ROWS * F::BYTES);
            V::prefetch(at.wrapping_add(PREFETCH_BYTES));
            weights[t] = F::load::<V>(at);
        }
        for c in 0..C {
            let x = V::splat_float(*operands.columns[c].cast::<f32>().add(i));
            for t in 0..T {
                sums[t][c] = V::mul_add(weights[t], x, sums[t][c]);
            }
        }
    }
}
