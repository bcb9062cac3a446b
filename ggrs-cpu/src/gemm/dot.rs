//! The dot product of two F32 rows, for weights that are not packed.

use crate::isa::Isa;

/// Sums that are kept side by side.
const WIDTH: usize = 64;

/// The sum of products of two rows; what one row has more than the other is left out.
pub fn dot_f32(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    match isa.usable() {
        Isa::Scalar => dot::<false>(a, b),
        // SAFETY: the level is one that this machine has.
        Isa::Avx2 => unsafe { dot_avx2(a, b) },
        // SAFETY: as above.
        Isa::Avx512 | Isa::Amx => unsafe { dot_avx512(a, b) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        dot::<false>(a, b)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    dot::<true>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
    dot::<true>(a, b)
}

/// The body that the compiler vectorises for each level. `FUSED` multiplies and adds in one rounding.
#[inline(always)]
fn dot<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (
        a.get(..n).unwrap_or_default(),
        b.get(..n).unwrap_or_default(),
    );
    let (a_chunks, a_rest) = a.as_chunks::<WIDTH>();
    let (b_chunks, b_rest) = b.as_chunks::<WIDTH>();
    let mut sums = [0.0_f32; WIDTH];
    for (xs, ys) in a_chunks.iter().zip(b_chunks) {
        for i in 0..WIDTH {
            sums[i] = if FUSED {
                xs[i].mul_add(ys[i], sums[i])
            } else {
                xs[i] * ys[i] + sums[i]
            };
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += x * y;
    }
    let mut width = WIDTH / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}
