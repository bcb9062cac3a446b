//! [`Lanes`] as two AVX2 registers.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Sixteen lanes in two registers.
#[derive(Clone, Copy)]
pub(super) struct Ymm2(__m256i, __m256i);

/// Sixteen F32 lanes in two registers.
#[derive(Clone, Copy)]
pub(super) struct Floats2(__m256, __m256);

/// The sum of four products, unsigned bytes times signed bytes, in each lane of one register.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn dot4<const SMALL: bool>(sum: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        if SMALL {
            // 2 * 63 * 127 fits 16 bits: the saturating pair product is exact.
            let pairs = _mm256_maddubs_epi16(weights, x);
            return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
        let even = _mm256_madd_epi16(
            _mm256_and_si256(weights, _mm256_set1_epi16(0xff)),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
        );
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(weights), _mm256_srai_epi16::<8>(x));
        _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
    }
}

// SAFETY (of every block below): the trait's contract: the caller has AVX2, FMA and F16C, and the pointers are readable
// or writable for the bytes that the method names. All loads and stores are unaligned ones.
impl Lanes for Ymm2 {
    type Floats = Floats2;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: 64 readable bytes.
        unsafe {
            Self(
                _mm256_loadu_si256(from.cast()),
                _mm256_loadu_si256(from.add(32).cast()),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_u16(from: *const u8) -> Self {
        // SAFETY: 32 readable bytes.
        unsafe {
            Self(
                _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())),
                _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(16).cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_set1_epi32(value), _mm256_set1_epi32(value)) }
    }

    #[inline(always)]
    unsafe fn splat_bytes(from: *const i8) -> Self {
        // SAFETY: 4 readable bytes.
        unsafe { Self::splat(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(
                _mm256_and_si256(self.0, other.0),
                _mm256_and_si256(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(
                _mm256_or_si256(self.0, other.0),
                _mm256_or_si256(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(
                _mm256_xor_si256(self.0, other.0),
                _mm256_xor_si256(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn shr(self, n: u32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let n = _mm_cvtsi32_si128(n.cast_signed());
            Self(_mm256_srl_epi32(self.0, n), _mm256_srl_epi32(self.1, n))
        }
    }

    #[inline(always)]
    unsafe fn shl(self, n: u32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let n = _mm_cvtsi32_si128(n.cast_signed());
            Self(_mm256_sll_epi32(self.0, n), _mm256_sll_epi32(self.1, n))
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(
                _mm256_add_epi32(self.0, other.0),
                _mm256_add_epi32(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(
                _mm256_mullo_epi32(self.0, other.0),
                _mm256_mullo_epi32(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        // SAFETY: the table is 16 readable bytes.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            Self(
                _mm256_shuffle_epi8(table, self.0),
                _mm256_shuffle_epi8(table, self.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn dot4<const SMALL: bool>(self, weights: Self, x: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(
                dot4::<SMALL>(self.0, weights.0, x.0),
                dot4::<SMALL>(self.1, weights.1, x.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> Floats2 {
        // SAFETY: the trait's contract.
        unsafe { Floats2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
    }

    #[inline(always)]
    unsafe fn as_floats(self) -> Floats2 {
        // SAFETY: the trait's contract.
        unsafe { Floats2(_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(self.1)) }
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> Floats2 {
        // SAFETY: 32 readable bytes.
        unsafe {
            Floats2(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> Floats2 {
        // SAFETY: the trait's contract.
        unsafe { Floats2(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn mul_floats(a: Floats2, b: Floats2) -> Floats2 {
        // SAFETY: the trait's contract.
        unsafe { Floats2(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: Floats2, b: Floats2, c: Floats2) -> Floats2 {
        // SAFETY: the trait's contract.
        unsafe {
            Floats2(
                _mm256_fmadd_ps(a.0, b.0, c.0),
                _mm256_fmadd_ps(a.1, b.1, c.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn store(value: Floats2, to: *mut f32) {
        // SAFETY: 64 writable bytes.
        unsafe {
            _mm256_storeu_ps(to, value.0);
            _mm256_storeu_ps(to.add(8), value.1);
        }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}
