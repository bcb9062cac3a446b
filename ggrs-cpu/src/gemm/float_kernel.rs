//! The F32 product: some tiles of F32, F16 or BF16 weights times some columns of F32 activations.

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

/// Products that are summed before they are added to the total: it keeps the rounding error of long rows small.
const RUN: usize = 256;

/// How far ahead of the multiplication the weights are asked for, in bytes.
const PREFETCH_BYTES: usize = 2048;

/// Multiplies `T` tiles by `C` columns over the whole of k.
///
/// # Safety
/// The level of `V` exists; the first `T` tiles of `operands` are packed tiles of format `F` with `n_blocks` elements in
/// a row, its first `C` columns are as many F32 values.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes, F: FloatFormat, const T: usize, const C: usize>(
    operands: &Operands,
    results: &mut Results,
) {
    // SAFETY: the caller's promise; every pointer below stays inside its tile or row.
    unsafe {
        let one = V::splat_float(1.0);
        let mut sums = [[V::splat_float(0.0); C]; T];
        let mut start = 0;
        while start < operands.n_blocks {
            let end = operands.n_blocks.min(start + RUN);
            let mut run = [[V::splat_float(0.0); C]; T];
            for i in start..end {
                let mut weights = [V::splat_float(0.0); T];
                for t in 0..T {
                    let at = operands.tiles[t].add(i * TILE_ROWS * F::BYTES);
                    V::prefetch(at.wrapping_add(PREFETCH_BYTES));
                    weights[t] = F::load::<V>(at);
                }
                for c in 0..C {
                    let x = V::splat_float(*operands.columns[c].cast::<f32>().add(i));
                    for t in 0..T {
                        run[t][c] = V::mul_add(weights[t], x, run[t][c]);
                    }
                }
            }
            for t in 0..T {
                for c in 0..C {
                    sums[t][c] = V::mul_add(run[t][c], one, sums[t][c]);
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
