//! [`Lanes`] as an array, in portable Rust: the reference for the other levels.

use half::f16;

use super::lanes::Lanes;

/// Sixteen lanes in an array.
#[derive(Clone, Copy)]
pub(super) struct Array([u32; 16]);

impl Array {
    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        self
    }

    #[inline(always)]
    fn map(mut self, f: impl Fn(u32) -> u32) -> Self {
        for a in &mut self.0 {
            *a = f(*a);
        }
        self
    }
}

/// Reads `N` bytes.
///
/// # Safety
/// `from` is readable for `N` bytes.
#[inline(always)]
unsafe fn read<const N: usize>(from: *const u8) -> [u8; N] {
    // SAFETY: the caller's promise; an array of bytes has no alignment.
    unsafe { from.cast::<[u8; N]>().read() }
}

impl Lanes for Array {
    type Floats = [f32; 16];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: 64 readable bytes.
        let bytes = unsafe { read::<64>(from) };
        let mut lanes = [0; 16];
        for (lane, b) in lanes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *lane = u32::from_le_bytes(*b);
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn load_u16(from: *const u8) -> Self {
        // SAFETY: 32 readable bytes.
        let bytes = unsafe { read::<32>(from) };
        let mut lanes = [0; 16];
        for (lane, b) in lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *lane = u32::from(u16::from_le_bytes(*b));
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([value.cast_unsigned(); 16])
    }

    #[inline(always)]
    unsafe fn splat_bytes(from: *const i8) -> Self {
        // SAFETY: 4 readable bytes.
        Self([u32::from_le_bytes(unsafe { read::<4>(from.cast()) }); 16])
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }

    #[inline(always)]
    unsafe fn shr(self, n: u32) -> Self {
        self.map(|a| a >> n)
    }

    #[inline(always)]
    unsafe fn shl(self, n: u32) -> Self {
        self.map(|a| a << n)
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_mul)
    }

    #[inline(always)]
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        self.map(|a| u32::from_le_bytes(a.to_le_bytes().map(|b| table[usize::from(b & 15)])))
    }

    #[inline(always)]
    unsafe fn dot4<const SMALL: bool>(mut self, weights: Self, x: Self) -> Self {
        for (sum, (w, x)) in self.0.iter_mut().zip(weights.0.iter().zip(x.0)) {
            for (w, x) in w.to_le_bytes().into_iter().zip(x.to_le_bytes()) {
                let product = i32::from(w) * i32::from(x.cast_signed());
                *sum = sum.wrapping_add(product.cast_unsigned());
            }
        }
        self
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> [f32; 16] {
        self.0.map(|a| a.cast_signed() as f32)
    }

    #[inline(always)]
    unsafe fn as_floats(self) -> [f32; 16] {
        self.0.map(f32::from_bits)
    }

    #[inline(always)]
    unsafe fn load_halves(from: *const u8) -> [f32; 16] {
        // SAFETY: 32 readable bytes.
        let bytes = unsafe { read::<32>(from) };
        let mut lanes = [0.0; 16];
        for (lane, b) in lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *lane = f16::from_le_bytes(*b).to_f32();
        }
        lanes
    }

    #[inline(always)]
    unsafe fn splat_float(value: f32) -> [f32; 16] {
        [value; 16]
    }

    #[inline(always)]
    unsafe fn mul_floats(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= b;
        }
        a
    }

    #[inline(always)]
    unsafe fn mul_add(a: [f32; 16], b: [f32; 16], mut c: [f32; 16]) -> [f32; 16] {
        for (c, (a, b)) in c.iter_mut().zip(a.into_iter().zip(b)) {
            *c += a * b;
        }
        c
    }

    #[inline(always)]
    unsafe fn store(value: [f32; 16], to: *mut f32) {
        // SAFETY: 64 writable bytes.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(value) }
    }

    #[inline(always)]
    unsafe fn prefetch(_from: *const u8) {}
}
