//! The integer product: some tiles of a block format times some columns of quantised activations.
//!
//! One loop for every format and level: see `blocks` for what a format is and `lanes` for what a level is.

#![allow(
    clippy::needless_range_loop,
    reason = "tile and column numbers index several arrays side by side"
)]

use super::blocks::Block;
use super::lanes::Lanes;
use super::product::{Operands, Results};
use crate::pack::ActivationGroup;

/// How far ahead of the multiplication the weights are asked for, in bytes.
const PREFETCH_BYTES: usize = 6144;

/// One group of `T` tiles and `C` columns, at hand for the steps below.
pub(super) struct Group<const T: usize, const C: usize> {
    /// The packed blocks that hold the group.
    pub(super) blocks: [*const u8; T],
    /// Which group of the blocks it is.
    pub(super) idx: usize,
    /// The columns' activations of the group.
    pub(super) columns: [*const ActivationGroup; C],
}

/// Multiplies `T` tiles by `C` columns over the whole of k.
///
/// # Safety
/// The level of `V` exists; the first `T` tiles of `operands` are packed tiles of format `B` with `n_blocks` blocks,
/// its first `C` columns are rows of as many activation groups.
#[inline(always)]
pub(super) unsafe fn multiply<V: Lanes, B: Block, const T: usize, const C: usize>(
    operands: &Operands,
    results: &mut Results,
) {
    // SAFETY: the caller's promise; every pointer below stays inside its tile or row.
    unsafe {
        let mut sums = [[V::splat_float(0.0); C]; T];
        for block_idx in 0..operands.n_blocks {
            let mut blocks = [std::ptr::null(); T];
            for t in 0..T {
                blocks[t] = operands.tiles[t].add(block_idx * B::BYTES);
            }
            for idx in 0..B::GROUPS {
                let mut columns = [std::ptr::null(); C];
                for c in 0..C {
                    columns[c] = operands.columns[c]
                        .cast::<ActivationGroup>()
                        .add(block_idx * B::GROUPS + idx);
                }
                for block in blocks {
                    let ahead = block.wrapping_add(PREFETCH_BYTES + idx * (B::BYTES / B::GROUPS));
                    for line in 0..(B::BYTES / B::GROUPS).div_ceil(64) {
                        V::prefetch(ahead.wrapping_add(64 * line));
                    }
                }
                add_group::<V, B, T, C>(
                    &Group {
                        blocks,
                        idx,
                        columns,
                    },
                    &mut sums,
                );
            }
        }
        for t in 0..T {
            for c in 0..C {
                V::store(sums[t][c], results[t][c].as_mut_ptr());
            }
        }
    }
}

/// Adds the products of one group to the sums.
#[inline(always)]
unsafe fn add_group<V: Lanes, B: Block, const T: usize, const C: usize>(
    group: &Group<T, C>,
    sums: &mut [[V::Floats; C]; T],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        if B::HALVES {
            let mut dots = start_dots::<V, B, T, C>(group, [1, 0]);
            low_steps::<V, B, T, C>(group, &mut dots);
            add_scaled::<V, B, T, C>(group, 0, &dots, sums);
            let mut dots = start_dots::<V, B, T, C>(group, [0, 1]);
            high_steps::<V, B, T, C>(group, &mut dots);
            add_scaled::<V, B, T, C>(group, 1, &dots, sums);
        } else {
            let mut dots = start_dots::<V, B, T, C>(group, [1, 1]);
            low_steps::<V, B, T, C>(group, &mut dots);
            high_steps::<V, B, T, C>(group, &mut dots);
            add_scaled::<V, B, T, C>(group, 0, &dots, sums);
        }
    }
}

/// What the dot products of some halves of a group (1: this one, 0: not) start from, so that the quants' zero is taken
/// off: minus the zero times the activations' sum.
///
/// # Safety
/// As [`multiply`], for the pointers of `group`.
#[inline(always)]
pub(super) unsafe fn start_dots<V: Lanes, B: Block, const T: usize, const C: usize>(
    group: &Group<T, C>,
    halves: [i32; 2],
) -> [[V; C]; T] {
    // SAFETY: the contract of `multiply`.
    unsafe {
        let mut dots = [[V::splat(0); C]; T];
        if let Some(zero) = B::ZERO {
            for c in 0..C {
                let [low, high] = (*group.columns[c]).negated_sums;
                let start = V::splat((low * halves[0] + high * halves[1]) << zero);
                for t in 0..T {
                    dots[t][c] = start;
                }
            }
        }
        dots
    }
}

/// Adds the dot products of a group (or a half of one), scaled, and what its offsets contribute.
///
/// # Safety
/// As [`multiply`], for the pointers of `group`; `half` is 0 or 1.
#[inline(always)]
pub(super) unsafe fn add_scaled<V: Lanes, B: Block, const T: usize, const C: usize>(
    group: &Group<T, C>,
    half: usize,
    dots: &[[V; C]; T],
    sums: &mut [[V::Floats; C]; T],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        for t in 0..T {
            let scale = B::scale::<V>(group.blocks[t], group.idx, half);
            for c in 0..C {
                let factor = V::mul_floats(scale, V::splat_float((*group.columns[c]).scale));
                sums[t][c] = V::mul_add(dots[t][c].to_floats(), factor, sums[t][c]);
            }
            if B::OFFSETS {
                let offset = B::offset::<V>(group.blocks[t], group.idx, half);
                for c in 0..C {
                    let x = *group.columns[c];
                    let sum = if B::HALVES {
                        -x.scale * x.negated_sums[half] as f32
                    } else {
                        x.scaled_sum
                    };
                    sums[t][c] = V::mul_add(offset, V::splat_float(sum), sums[t][c]);
                }
            }
        }
    }
}

/// Elements 0..16 of a group.
#[inline(always)]
unsafe fn low_steps<V: Lanes, B: Block, const T: usize, const C: usize>(
    group: &Group<T, C>,
    dots: &mut [[V; C]; T],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        step::<V, B, T, C, 0>(group, dots);
        step::<V, B, T, C, 1>(group, dots);
        step::<V, B, T, C, 2>(group, dots);
        step::<V, B, T, C, 3>(group, dots);
    }
}

/// Elements 16..32 of a group.
#[inline(always)]
unsafe fn high_steps<V: Lanes, B: Block, const T: usize, const C: usize>(
    group: &Group<T, C>,
    dots: &mut [[V; C]; T],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        step::<V, B, T, C, 4>(group, dots);
        step::<V, B, T, C, 5>(group, dots);
        step::<V, B, T, C, 6>(group, dots);
        step::<V, B, T, C, 7>(group, dots);
    }
}

/// Four elements of every row and column. `STEP` is a constant so that the quants' shifts are.
#[inline(always)]
unsafe fn step<V: Lanes, B: Block, const T: usize, const C: usize, const STEP: usize>(
    group: &Group<T, C>,
    dots: &mut [[V; C]; T],
) {
    // SAFETY: the contract of `multiply`; the four quants are inside the group's 32.
    unsafe {
        let mut weights = [V::splat(0); T];
        for t in 0..T {
            weights[t] = B::quants::<V>(group.blocks[t], group.idx, STEP);
        }
        for c in 0..C {
            let quants = &raw const (*group.columns[c]).quants;
            let x = V::splat_bytes(quants.cast::<i8>().add(4 * STEP));
            for t in 0..T {
                dots[t][c] = dot4::<V, B>(dots[t][c], weights[t], x);
            }
        }
    }
}

/// The dot product of four elements for the format's range of quants.
#[inline(always)]
unsafe fn dot4<V: Lanes, B: Block>(sum: V, weights: V, x: V) -> V {
    // SAFETY: the contract of `multiply`; a format that says its quants are small has none above 63.
    unsafe {
        if B::SMALL {
            sum.dot4::<true>(weights, x)
        } else {
            sum.dot4::<false>(weights, x)
        }
    }
}
