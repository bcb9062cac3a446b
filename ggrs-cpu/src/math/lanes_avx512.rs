//! [`Lanes`] as one AVX-512 register: sixteen lanes, tails by masks.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Proof that AVX-512 F, BW, DQ and VL exist.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine has AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

const N: usize = 16;

/// Ones for the lanes that a slice of `len` elements has.
#[inline(always)]
fn mask(len: usize) -> u16 {
    if len >= N { !0 } else { (1 << len) - 1 }
}

/// Calls intrinsics; the message is the same for all of them.
macro_rules! simd {
    ($value:expr) => {
        // SAFETY: `self` proves that the instructions exist; memory operands are masked to their slice's length.
        unsafe { $value }
    };
}

impl Avx512 {
    /// The first 16 two-byte values; zeros where there are fewer.
    #[inline(always)]
    fn halves(self, from: &[[u8; 2]]) -> __m256i {
        if from.len() >= N {
            simd!(_mm256_loadu_si256(from.as_ptr().cast()))
        } else {
            simd!(_mm256_maskz_loadu_epi16(
                mask(from.len()),
                from.as_ptr().cast()
            ))
        }
    }

    /// The first 16 bytes; zeros where there are fewer.
    #[inline(always)]
    fn bytes(self, from: &[u8]) -> __m128i {
        if from.len() >= N {
            simd!(_mm_loadu_si128(from.as_ptr().cast()))
        } else {
            simd!(_mm_maskz_loadu_epi8(mask(from.len()), from.as_ptr().cast()))
        }
    }
}

impl Lanes for Avx512 {
    type Floats = __m512;
    type Square = [__m512; N];
    const N: usize = N;
    const TILE_ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        simd!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        if from.len() >= N {
            simd!(_mm512_loadu_ps(from.as_ptr()))
        } else {
            simd!(_mm512_maskz_loadu_ps(mask(from.len()), from.as_ptr()))
        }
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32]) {
        if to.len() >= N {
            simd!(_mm512_storeu_ps(to.as_mut_ptr(), x));
        } else {
            simd!(_mm512_mask_storeu_ps(to.as_mut_ptr(), mask(to.len()), x));
        }
    }

    #[inline(always)]
    fn load_f32_bytes(self, from: &[[u8; 4]]) -> __m512 {
        if from.len() >= N {
            simd!(_mm512_loadu_ps(from.as_ptr().cast()))
        } else {
            simd!(_mm512_maskz_loadu_ps(
                mask(from.len()),
                from.as_ptr().cast()
            ))
        }
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> __m512 {
        let x = i16::from_le_bytes(x);
        simd!(_mm512_cvtph_ps(_mm256_set1_epi16(x)))
    }

    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]]) -> __m512 {
        simd!(_mm512_cvtph_ps(self.halves(from)))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]]) -> __m512 {
        simd!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_cvtepu16_epi32(self.halves(from))
        )))
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8]) -> __m512 {
        simd!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(self.bytes(from))))
    }

    #[inline(always)]
    fn load_low_nibbles(self, from: &[u8]) -> __m512 {
        simd!(_mm512_cvtepi32_ps(_mm512_and_si512(
            _mm512_cvtepu8_epi32(self.bytes(from)),
            _mm512_set1_epi32(15)
        )))
    }

    #[inline(always)]
    fn load_high_nibbles(self, from: &[u8]) -> __m512 {
        simd!(_mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(
            _mm512_cvtepu8_epi32(self.bytes(from))
        )))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        simd!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        simd!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn sqrt(self, x: __m512) -> __m512 {
        simd!(_mm512_sqrt_ps(x))
    }

    #[inline(always)]
    fn abs(self, x: __m512) -> __m512 {
        simd!(_mm512_abs_ps(x))
    }

    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        simd!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b),
            no,
            yes
        ))
    }

    #[inline(always)]
    fn scale_by_power(self, x: __m512, n: __m512) -> __m512 {
        simd!(_mm512_scalef_ps(x, n))
    }

    #[inline(always)]
    fn total(self, x: __m512) -> f32 {
        simd!(_mm512_reduce_add_ps(x))
    }

    #[inline(always)]
    fn largest(self, x: __m512) -> f32 {
        simd!(_mm512_reduce_max_ps(x))
    }

    #[inline(always)]
    fn square(self) -> [__m512; N] {
        simd!([_mm512_setzero_ps(); N])
    }

    #[inline(always)]
    fn transpose(self, rows: [__m512; N]) -> [__m512; N] {
        simd!({
            let mut pairs = rows;
            for i in (0..N).step_by(2) {
                pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
            }
            // quads[4 i + j] has, in 128-bit lane l, column 4 l + j of rows 4 i .. 4 i + 4.
            let mut quads = pairs;
            for i in (0..N).step_by(4) {
                quads[i] = _mm512_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
                quads[i + 1] = _mm512_shuffle_ps::<0xee>(pairs[i], pairs[i + 2]);
                quads[i + 2] = _mm512_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
                quads[i + 3] = _mm512_shuffle_ps::<0xee>(pairs[i + 1], pairs[i + 3]);
            }
            let mut out = quads;
            for j in 0..4 {
                let (a, b, c, d) = (quads[j], quads[4 + j], quads[8 + j], quads[12 + j]);
                let even_low = _mm512_shuffle_f32x4::<0x88>(a, b);
                let odd_low = _mm512_shuffle_f32x4::<0xdd>(a, b);
                let even_high = _mm512_shuffle_f32x4::<0x88>(c, d);
                let odd_high = _mm512_shuffle_f32x4::<0xdd>(c, d);
                out[j] = _mm512_shuffle_f32x4::<0x88>(even_low, even_high);
                out[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high);
                out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even_low, even_high);
                out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high);
            }
            out
        })
    }
}
