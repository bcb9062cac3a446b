//! Vectors of F32 lanes at every instruction-set level, and the way into code that is compiled for a level.
//!
//! A value of a type that implements [`Lanes`] exists only where the level's instructions do, so its methods are safe.
//! They are inlined into the entry function that enables the instructions; code over `Lanes` must be
//! `#[inline(always)]` and must not pass vectors through closures.

use super::lanes_scalar::Scalar;
use crate::isa::Isa;

/// A level's vector of F32 lanes.
pub(crate) trait Lanes: Copy {
    /// `N` lanes.
    type Floats: Copy;
    /// `N` vectors.
    type Square: AsMut<[Self::Floats]>;
    /// How many lanes there are.
    const N: usize;
    /// Rows of a register tile in matrix products; two vectors wide.
    const TILE_ROWS: usize;

    /// The same value in every lane.
    fn splat(self, x: f32) -> Self::Floats;
    /// The first `N` values; lanes without one are 0.
    fn load(self, from: &[f32]) -> Self::Floats;
    /// Writes as many lanes as `to` has room for.
    fn store(self, x: Self::Floats, to: &mut [f32]);
    /// The first `N` values (little-endian); lanes without one are 0.
    fn load_f32_bytes(self, from: &[[u8; 4]]) -> Self::Floats;
    /// The same F16 value (little-endian) in every lane.
    fn splat_f16(self, x: [u8; 2]) -> Self::Floats;
    /// The first `N` F16 values (little-endian); lanes without one are 0.
    fn load_f16(self, from: &[[u8; 2]]) -> Self::Floats;
    /// Signed bytes; lanes without one are 0.
    fn load_i8(self, from: &[u8]) -> Self::Floats;
    /// The low four bits of bytes; lanes without one are 0.
    fn load_low_nibbles(self, from: &[u8]) -> Self::Floats;
    /// The high four bits of bytes; lanes without one are 0.
    fn load_high_nibbles(self, from: &[u8]) -> Self::Floats;
    /// The first `N` BF16 values (little-endian); lanes without one are 0.
    fn load_bf16(self, from: &[[u8; 2]]) -> Self::Floats;

    /// `a + b`.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b`.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a / b`.
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, in one rounding where the level has it.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Square root.
    fn sqrt(self, x: Self::Floats) -> Self::Floats;
    /// Magnitude.
    fn abs(self, x: Self::Floats) -> Self::Floats;
    /// `yes` where `a < b`, else `no`.
    fn if_less(
        self,
        a: Self::Floats,
        b: Self::Floats,
        yes: Self::Floats,
        no: Self::Floats,
    ) -> Self::Floats;
    /// `x * 2^n` for integral `n` of -250..=250, rounded as the product is.
    fn scale_by_power(self, x: Self::Floats, n: Self::Floats) -> Self::Floats;

    /// The sum of the lanes.
    fn total(self, x: Self::Floats) -> f32;
    /// The largest lane.
    fn largest(self, x: Self::Floats) -> f32;
    /// `N` vectors of zeros.
    fn square(self) -> Self::Square;
    /// Exchanges rows and columns.
    fn transpose(self, square: Self::Square) -> Self::Square;
}

/// Work over the lanes of any level. `run` must be `#[inline(always)]`.
pub(crate) trait Task {
    /// What it gives.
    type Output;

    /// Does it.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs a task with the instructions of `isa`, or of the best level below it that the machine has.
pub(crate) fn dispatch<T: Task>(isa: Isa, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    match isa.usable() {
        Isa::Scalar => task.run(Scalar),
        // SAFETY: the level is one that this machine has.
        Isa::Avx2 => unsafe { x86::enter_avx2(task) },
        // SAFETY: as above.
        Isa::Avx512 | Isa::Amx => unsafe { x86::enter_avx512(task) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        task.run(Scalar)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::lanes_avx2::Avx2;
    use super::super::lanes_avx512::Avx512;
    use super::Task;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn enter_avx2<T: Task>(task: T) -> T::Output {
        // SAFETY: this function's instructions.
        task.run(unsafe { Avx2::new() })
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn enter_avx512<T: Task>(task: T) -> T::Output {
        // SAFETY: this function's instructions.
        task.run(unsafe { Avx512::new() })
    }
}
