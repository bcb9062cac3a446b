//! [`Lanes`] as one AVX2 register: eight lanes, tails by masks or through the stack.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Proof that AVX2, FMA and F16C exist.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has AVX2, FMA and F16C.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

const N: usize = 8;

/// Calls intrinsics; the message is the same for all of them.
macro_rules! simd {
    ($value:expr) => {
        // SAFETY: `self` proves that the instructions exist; memory operands are masked to their slice's length, or the
        // slice was seen to be long enough.
        unsafe { $value }
    };
}

/// The first eight elements; zeros where there are fewer.
#[inline(always)]
fn eight<T: Copy + bytemuck::Zeroable>(from: &[T]) -> [T; N] {
    match from.first_chunk::<N>() {
        Some(all) => *all,
        None => {
            let mut out = [T::zeroed(); N];
            for (o, x) in out.iter_mut().zip(from) {
                *o = *x;
            }
            out
        }
    }
}

impl Avx2 {
    /// All bits of the lanes below `len`.
    #[inline(always)]
    fn mask(self, len: usize) -> __m256i {
        let len = i32::try_from(len.min(N)).unwrap_or(0);
        simd!(_mm256_cmpgt_epi32(
            _mm256_set1_epi32(len),
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
        ))
    }

    /// Unsigned bytes as integers.
    #[inline(always)]
    fn bytes(self, from: &[u8]) -> __m256i {
        let bytes = eight(from);
        simd!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.as_ptr().cast())))
    }
}

impl Lanes for Avx2 {
    type Floats = __m256;
    type Square = [__m256; N];
    const N: usize = N;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        simd!(_mm256_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        if from.len() >= N {
            simd!(_mm256_loadu_ps(from.as_ptr()))
        } else {
            simd!(_mm256_maskload_ps(from.as_ptr(), self.mask(from.len())))
        }
    }

    #[inline(always)]
    fn store(self, x: __m256, to: &mut [f32]) {
        if to.len() >= N {
            simd!(_mm256_storeu_ps(to.as_mut_ptr(), x));
        } else {
            simd!(_mm256_maskstore_ps(to.as_mut_ptr(), self.mask(to.len()), x));
        }
    }

    #[inline(always)]
    fn load_f32_bytes(self, from: &[[u8; 4]]) -> __m256 {
        let values = eight(from);
        simd!(_mm256_loadu_ps(values.as_ptr().cast()))
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> __m256 {
        let x = i16::from_le_bytes(x);
        simd!(_mm256_cvtph_ps(_mm_set1_epi16(x)))
    }

    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]]) -> __m256 {
        let halves = eight(from);
        simd!(_mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8]) -> __m256 {
        let bytes = eight(from);
        simd!(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(
            bytes.as_ptr().cast()
        ))))
    }

    #[inline(always)]
    fn load_low_nibbles(self, from: &[u8]) -> __m256 {
        simd!(_mm256_cvtepi32_ps(_mm256_and_si256(
            self.bytes(from),
            _mm256_set1_epi32(15)
        )))
    }

    #[inline(always)]
    fn load_high_nibbles(self, from: &[u8]) -> __m256 {
        simd!(_mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(self.bytes(from))))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]]) -> __m256 {
        let halves = eight(from);
        simd!({
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        simd!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        simd!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn sqrt(self, x: __m256) -> __m256 {
        simd!(_mm256_sqrt_ps(x))
    }

    #[inline(always)]
    fn abs(self, x: __m256) -> __m256 {
        simd!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), x))
    }

    #[inline(always)]
    fn if_less(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        simd!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }

    #[inline(always)]
    fn scale_by_power(self, x: __m256, n: __m256) -> __m256 {
        simd!({
            // 2^n in two factors, each of which is a normal number.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            let bias = _mm256_set1_epi32(127);
            let a = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let b = _mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias));
            _mm256_mul_ps(
                _mm256_mul_ps(x, _mm256_castsi256_ps(a)),
                _mm256_castsi256_ps(b),
            )
        })
    }

    #[inline(always)]
    fn total(self, x: __m256) -> f32 {
        simd!({
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn largest(self, x: __m256) -> f32 {
        simd!({
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn square(self) -> [__m256; N] {
        simd!([_mm256_setzero_ps(); N])
    }

    #[inline(always)]
    fn transpose(self, rows: [__m256; N]) -> [__m256; N] {
        simd!({
            let mut pairs = rows;
            for i in (0..N).step_by(2) {
                pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
            }
            // quads[4 i + j] has, in 128-bit lane l, column 4 l + j of rows 4 i .. 4 i + 4.
            let mut quads = pairs;
            for i in (0..N).step_by(4) {
                quads[i] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
                quads[i + 1] = _mm256_shuffle_ps::<0xee>(pairs[i], pairs[i + 2]);
                quads[i + 2] = _mm256_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
                quads[i + 3] = _mm256_shuffle_ps::<0xee>(pairs[i + 1], pairs[i + 3]);
            }
            let mut out = quads;
            for j in 0..4 {
                out[j] = _mm256_permute2f128_ps::<0x20>(quads[j], quads[4 + j]);
                out[4 + j] = _mm256_permute2f128_ps::<0x31>(quads[j], quads[4 + j]);
            }
            out
        })
    }
}
