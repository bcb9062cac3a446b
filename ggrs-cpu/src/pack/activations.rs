//! Activations for the integer products: signed bytes with one F32 scale per 32, and the sums that offsets need.
//!
//! One form serves every weight format, so an activation is quantised once for all the weights that read it. Scales for
//! each 32 (and not rounded to F16) keep the error below that of one scale per 256 elements.

use super::PackError;
use crate::isa::Isa;

/// Elements in a group.
pub const GROUP_ELEMS: usize = 32;

/// 32 activations: `x[i]` is about `scale * quants[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct ActivationGroup {
    /// The largest magnitude / 127; NaN if any value is not finite, so that the products are NaN too.
    pub scale: f32,
    /// `scale` times the sum of all quants: what a weight's offset is multiplied by.
    pub scaled_sum: f32,
    /// Minus the sum of each half's quants: what a weight's integer zero point is multiplied by.
    pub negated_sums: [i32; 2],
    /// The values, -127..=127.
    pub quants: [i8; GROUP_ELEMS],
}

/// Rows of quantised activations, [n_rows, k / 32] groups.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    groups: &'a [ActivationGroup],
    k: usize,
}

impl<'a> QuantizedRows<'a> {
    /// Borrows rows of `k` elements that [`quantize_activations`] wrote.
    ///
    /// # Errors
    /// `k` is not a whole number of groups, or the groups are not a whole number of rows.
    pub fn new(groups: &'a [ActivationGroup], k: usize) -> Result<Self, PackError> {
        if k == 0 || !k.is_multiple_of(GROUP_ELEMS) {
            return Err(PackError::PartialGroup { k });
        }
        let row_groups = k / GROUP_ELEMS;
        if !groups.len().is_multiple_of(row_groups) {
            let n_elems = groups.len().saturating_mul(GROUP_ELEMS);
            let expected = groups.len() / row_groups * row_groups;
            return Err(PackError::GroupCount {
                n_elems,
                expected,
                found: groups.len(),
            });
        }
        Ok(Self { groups, k })
    }

    /// Elements in a row.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Rows.
    pub const fn n_rows(&self) -> usize {
        self.groups.len() / (self.k / GROUP_ELEMS)
    }

    /// All groups, row by row.
    pub const fn groups(&self) -> &'a [ActivationGroup] {
        self.groups
    }
}

/// Quantises activations in groups of 32: any number of rows whose length is a multiple of 32, one after the other.
///
/// # Errors
/// `values` is not a whole number of groups, or `groups` has another length than it needs.
pub fn quantize_activations(
    isa: Isa,
    values: &[f32],
    groups: &mut [ActivationGroup],
) -> Result<(), PackError> {
    let (chunks, rest) = values.as_chunks::<GROUP_ELEMS>();
    if !rest.is_empty() {
        return Err(PackError::PartialGroup { k: values.len() });
    }
    if chunks.len() != groups.len() {
        let (expected, found) = (chunks.len(), groups.len());
        return Err(PackError::GroupCount {
            n_elems: values.len(),
            expected,
            found,
        });
    }
    #[cfg(target_arch = "x86_64")]
    match isa.usable() {
        Isa::Scalar => quantize_groups(chunks, groups),
        // SAFETY: the level is one that this machine has.
        Isa::Avx2 => unsafe { quantize_groups_avx2(chunks, groups) },
        // SAFETY: as above.
        Isa::Avx512 | Isa::Amx => unsafe { quantize_groups_avx512(chunks, groups) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        quantize_groups(chunks, groups);
    }
    Ok(())
}

/// The body that the compiler vectorises for each level.
#[inline(always)]
fn quantize_groups(chunks: &[[f32; GROUP_ELEMS]], groups: &mut [ActivationGroup]) {
    for (xs, group) in chunks.iter().zip(groups) {
        *group = quantize_group(xs);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn quantize_groups_avx2(chunks: &[[f32; GROUP_ELEMS]], groups: &mut [ActivationGroup]) {
    quantize_groups(chunks, groups);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_groups_avx512(chunks: &[[f32; GROUP_ELEMS]], groups: &mut [ActivationGroup]) {
    quantize_groups(chunks, groups);
}

#[inline(always)]
fn quantize_group(xs: &[f32; GROUP_ELEMS]) -> ActivationGroup {
    /// Magnitudes below this are zero: their scale's inverse would overflow.
    const NEGLIGIBLE: f32 = 1e-35;
    // Magnitudes order as their bits do, and every NaN is above infinity.
    let largest = xs
        .iter()
        .fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
    let magnitude = f32::from_bits(largest);
    if !magnitude.is_finite() {
        return ActivationGroup {
            scale: f32::NAN,
            scaled_sum: f32::NAN,
            ..ActivationGroup::default()
        };
    }
    if magnitude < NEGLIGIBLE {
        return ActivationGroup::default();
    }
    let scale = magnitude / 127.0;
    let inverse = 127.0 / magnitude;
    let mut group = ActivationGroup {
        scale,
        ..ActivationGroup::default()
    };
    let mut rounded = [0_i32; GROUP_ELEMS];
    for (q, x) in rounded.iter_mut().zip(xs) {
        *q = round_small(x * inverse);
    }
    for (q, r) in group.quants.iter_mut().zip(&rounded) {
        *q = *r as i8;
    }
    let (low, high) = rounded.split_at(GROUP_ELEMS / 2);
    group.negated_sums = [-low.iter().sum::<i32>(), -high.iter().sum::<i32>()];
    group.scaled_sum = -scale * (group.negated_sums[0] + group.negated_sums[1]) as f32;
    group
}

/// `x` rounded to nearest, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves the integer in the low bits.
#[inline(always)]
fn round_small(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().cast_signed() - MAGIC.to_bits().cast_signed()
}
