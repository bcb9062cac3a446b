//! The integer product: some tiles of a block format times some columns of quantised activations.
//!
//! One loop for every format and level: see `blocks` for what a format is and `lanes` for what a level is.

use super::blocks::{Block, Offsets};
use super::lanes::Lanes;
use super::product::{Operands, Results};
use crate::pack::ActivationGroup;

/// How far ahead of the multiplication the weights are asked for, in bytes.
const PREFETCH_BYTES: usize = 2048;

/// One group of `T` tiles and `C` columns, at hand for the steps below.
struct Group<const T: usize, const C: usize> {
    blocks: [*const u8; T],
    idx: usize,
    columns: [*const ActivationGroup; C],
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
                    columns[c] = operands.columns[c].cast::<ActivationGroup>().add(block_idx * B::GROUPS + idx);
                }
                for block in blocks {
                    let ahead = block.wrapping_add(PREFETCH_BYTES + idx * (B::BYTES / B::GROUPS));
                    for line in 0..(B::BYTES / B::GROUPS).div_ceil(64) {
                        V::prefetch(ahead.wrapping_add(64 * line));
                    }
                }
                add_group::<V, B, T, C>(&Group { blocks, idx, columns }, &mut sums);
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
        let mut dots = [[V::splat(0); C]; T];
        if B::HALF_SCALES {
            add_half::<V, B, T, C, 0>(group, &mut dots);
            add_half::<V, B, T, C, 1>(group, &mut dots);
        } else {
            if let Some(zero) = B::ZERO {
                for c in 0..C {
                    let [low, high] = negated_sums::<V>(group.columns[c]);
                    let correction = low.add(high).shl(zero);
                    for t in 0..T {
                        dots[t][c] = correction;
                    }
                }
            }
            low_steps::<V, B, T, C>(group, &mut dots);
            high_steps::<V, B, T, C>(group, &mut dots);
        }
        for t in 0..T {
            let scale = B::scale::<V>(group.blocks[t], group.idx);
            for c in 0..C {
                let factor = V::mul_floats(scale, V::splat_float((*group.columns[c]).scale));
                sums[t][c] = V::mul_add(dots[t][c].to_floats(), factor, sums[t][c]);
            }
            add_offsets::<V, B, T, C>(group, t, &mut sums[t]);
        }
    }
}

/// Adds what the offsets of one tile contribute.
#[inline(always)]
unsafe fn add_offsets<V: Lanes, B: Block, const T: usize, const C: usize>(
    group: &Group<T, C>,
    t: usize,
    sums: &mut [V::Floats; C],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        match B::OFFSETS {
            Offsets::None => {}
            Offsets::Group => {
                let offset = B::offset::<V>(group.blocks[t], group.idx);
                for c in 0..C {
                    let x = V::splat_float((*group.columns[c]).scaled_sum);
                    sums[c] = V::mul_add(offset, x, sums[c]);
                }
            }
            Offsets::Halves => {
                let factor = B::offset::<V>(group.blocks[t], group.idx);
                let minimums =
                    [B::half_minimum::<V>(group.blocks[t], group.idx, 0), B::half_minimum(group.blocks[t], group.idx, 1)];
                for c in 0..C {
                    let negated = negated_sums::<V>(group.columns[c]);
                    let dot = minimums[0].mul(negated[0]).add(minimums[1].mul(negated[1]));
                    let x = V::mul_floats(factor, V::splat_float((*group.columns[c]).scale));
                    sums[c] = V::mul_add(dot.to_floats(), x, sums[c]);
                }
            }
        }
    }
}

/// Minus the sums of the two halves of a group of activations.
#[inline(always)]
unsafe fn negated_sums<V: Lanes>(column: *const ActivationGroup) -> [V; 2] {
    // SAFETY: the contract of `multiply`.
    unsafe { [V::splat((*column).negated_sums[0]), V::splat((*column).negated_sums[1])] }
}

/// Adds one half of a group, times its integer scale, to `dots`.
#[inline(always)]
unsafe fn add_half<V: Lanes, B: Block, const T: usize, const C: usize, const HALF: usize>(
    group: &Group<T, C>,
    dots: &mut [[V; C]; T],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        let mut part = [[V::splat(0); C]; T];
        if let Some(zero) = B::ZERO {
            for c in 0..C {
                let correction = negated_sums::<V>(group.columns[c])[HALF].shl(zero);
                for t in 0..T {
                    part[t][c] = correction;
                }
            }
        }
        if HALF == 0 {
            low_steps::<V, B, T, C>(group, &mut part);
        } else {
            high_steps::<V, B, T, C>(group, &mut part);
        }
        for t in 0..T {
            let scale = B::half_scale::<V>(group.blocks[t], group.idx, HALF);
            for c in 0..C {
                dots[t][c] = dots[t][c].add(part[t][c].mul(scale));
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
    unsafe { if B::SMALL { sum.dot4::<true>(weights, x) } else { sum.dot4::<false>(weights, x) } }
}
