//! [`Lanes`] as one AVX-512 register, with the VNNI dot product.

use std::arch::x86_64::*;

use super::lanes::Lanes;

/// Sixteen lanes in one register.
#[derive(Clone, Copy)]
pub(super) struct Zmm(__m512i);

// SAFETY (of every block below): the trait's contract: the caller has AVX-512 F, BW, DQ, VL and VNNI, and the pointers
// are readable or writable for the bytes that the method names. All loads and stores are unaligned ones.
impl Lanes for Zmm {
    type Floats = __m512;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: 64 readable bytes.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_u16(from: *const u8) -> Self {
        // SAFETY: 32 readable bytes.
        Self(unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_set1_epi32(value) })
    }

    #[inline(always)]
    unsafe fn splat_bytes(from: *const i8) -> Self {
        // SAFETY: 4 readable bytes.
        Self(unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn shr(self, n: u32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(n.cast_signed())) })
    }

    #[inline(always)]
    unsafe fn shl(self, n: u32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(n.cast_signed())) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_mullo_epi32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        // SAFETY: the table is 16 readable bytes.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            Self(_mm512_shuffle_epi8(table, self.0))
        }
    }

    #[inline(always)]
    unsafe fn dot4<const SMALL: bool>(self, weights: Self, x: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, weights.0, x.0) })
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtepi32_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn as_floats(self) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_castsi512_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> __m512 {
        // SAFETY: 32 readable bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn mul_floats(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn store(value: __m512, to: *mut f32) {
        // SAFETY: 64 writable bytes.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}
