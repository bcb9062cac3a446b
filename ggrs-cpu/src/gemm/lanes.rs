//! Sixteen 32-bit lanes, one for each row of a tile: what the kernels are written in, once for all levels.
//!
//! The implementations are one register (AVX-512), two (AVX2) or an array (scalar). They must be inlined into a function
//! that enables their instructions; that is why every method is `unsafe` and no closure is used around them.

/// Sixteen 32-bit lanes, of integers or of four bytes each.
///
/// # Safety
/// Every method may only be called where the level's instructions exist. Pointers must be readable (writable) for the
/// bytes that the method names; no alignment is needed.
pub(super) trait Lanes: Copy {
    /// Sixteen F32 lanes.
    type Floats: Copy;

    /// Loads 64 bytes.
    unsafe fn load(from: *const u8) -> Self;
    /// Loads 16 two-byte integers (32 bytes), each widened to a lane.
    unsafe fn load_u16(from: *const u8) -> Self;
    /// The same value in every lane.
    unsafe fn splat(value: i32) -> Self;
    /// The four bytes at `from` in every lane.
    unsafe fn splat_bytes(from: *const i8) -> Self;
    /// Bitwise and.
    unsafe fn and(self, other: Self) -> Self;
    /// Bitwise or.
    unsafe fn or(self, other: Self) -> Self;
    /// Bitwise exclusive or.
    unsafe fn xor(self, other: Self) -> Self;
    /// Logical shift right of every lane, `n` < 32.
    unsafe fn shr(self, n: u32) -> Self;
    /// Shift left of every lane, `n` < 32.
    unsafe fn shl(self, n: u32) -> Self;
    /// Wrapping sum.
    unsafe fn add(self, other: Self) -> Self;
    /// Wrapping product.
    unsafe fn mul(self, other: Self) -> Self;
    /// Replaces every byte, which must be below 16, by the table's entry.
    unsafe fn lookup(self, table: &[u8; 16]) -> Self;
    /// Adds to each lane the sum of four products: unsigned bytes of `weights` times signed bytes of `x`.
    ///
    /// `SMALL` says that no byte of `weights` is above 63, so that a pair of products fits 16 bits.
    unsafe fn dot4<const SMALL: bool>(self, weights: Self, x: Self) -> Self;
    /// Signed integers to F32.
    unsafe fn to_floats(self) -> Self::Floats;
    /// The lanes' bits as F32.
    unsafe fn as_floats(self) -> Self::Floats;

    /// Loads 16 F16 values (32 bytes).
    unsafe fn load_halves(from: *const u8) -> Self::Floats;
    /// The same value in every lane.
    unsafe fn splat_float(value: f32) -> Self::Floats;
    /// Product.
    unsafe fn mul_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, in one rounding where the level has it.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Stores the 16 lanes as floats (64 bytes).
    unsafe fn store(value: Self::Floats, to: *mut f32);
    /// Asks for the cache line at `from`; the address need not be readable.
    unsafe fn prefetch(from: *const u8);

    /// Minus every lane.
    #[inline(always)]
    unsafe fn negate(self) -> Self {
        // SAFETY: as the caller's: minus x is not(x) + 1.
        unsafe { self.xor(Self::splat(-1)).add(Self::splat(1)) }
    }

    /// The same four bytes `value` in every lane.
    #[inline(always)]
    unsafe fn splat_byte(value: u8) -> Self {
        // SAFETY: as the caller's.
        unsafe { Self::splat(i32::from_ne_bytes([value; 4])) }
    }
}
