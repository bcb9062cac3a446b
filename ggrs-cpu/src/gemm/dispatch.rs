//! Which compiled kernel serves a format at a level.
//!
//! The kernels are generic over format, level, tiles and columns; here they get their instructions and their sizes.

use ggrs_core::DType;

use super::blocks::{self, Block};
use super::float_kernel::{self, FloatFormat};
use super::integer_kernel;
use super::lanes_scalar::Array;
use super::product::{Operands, Results};
use crate::isa::Isa;

/// A kernel for one format and level.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Tiles that one call multiplies.
    pub(super) tiles: usize,
    /// Columns that one call multiplies at most.
    pub(super) columns: usize,
    /// Multiplies `tiles` tiles by the first 1..=`columns` columns, or some more of them (their results mean nothing).
    ///
    /// # Safety
    /// The level exists, and the operands (all `columns` of them) are what the format's kernel says.
    pub(super) run: unsafe fn(n_columns: usize, operands: &Operands, results: &mut Results),
}

/// A level, able to name its kernel for every format.
trait Level {
    fn block<B: Block>() -> Kernel;
    fn float<F: FloatFormat>() -> Kernel;
}

/// The kernel of a format; `None` for integers.
///
/// A level that the machine lacks is replaced by the best one that it has.
pub(super) fn kernel(isa: Isa, dtype: DType) -> Option<Kernel> {
    match isa.usable() {
        Isa::Scalar => kernel_at::<Scalar>(dtype),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernel_at::<x86::Avx2>(dtype),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => kernel_at::<x86::Avx512>(dtype),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => kernel_at::<x86::Avx512>(dtype),
        #[cfg(not(target_arch = "x86_64"))]
        _ => kernel_at::<Scalar>(dtype),
    }
}

fn kernel_at<L: Level>(dtype: DType) -> Option<Kernel> {
    Some(match dtype {
        DType::F32 => L::float::<float_kernel::F32>(),
        DType::F16 => L::float::<float_kernel::F16>(),
        DType::BF16 => L::float::<float_kernel::Bf16>(),
        DType::Q4_0 => L::block::<blocks::Q4_0>(),
        DType::Q4_1 => L::block::<blocks::Q4_1>(),
        DType::Q5_0 => L::block::<blocks::Q5_0>(),
        DType::Q5_1 => L::block::<blocks::Q5_1>(),
        DType::Q8_0 => L::block::<blocks::Q8_0>(),
        DType::Q2_K => L::block::<blocks::Q2K>(),
        DType::Q3_K => L::block::<blocks::Q3K>(),
        DType::Q4_K => L::block::<blocks::Q4K>(),
        DType::Q5_K => L::block::<blocks::Q5K>(),
        DType::Q6_K => L::block::<blocks::Q6K>(),
        DType::IQ4_NL => L::block::<blocks::Iq4Nl>(),
        DType::IQ4_XS => L::block::<blocks::Iq4Xs>(),
        DType::MXFP4 => L::block::<blocks::Mxfp4>(),
        DType::I32 | DType::I64 => return None,
    })
}

/// Portable Rust: one tile by one column.
struct Scalar;

impl Level for Scalar {
    fn block<B: Block>() -> Kernel {
        unsafe fn run<B: Block>(_: usize, operands: &Operands, results: &mut Results) {
            // SAFETY: the caller's promise.
            unsafe { integer_kernel::multiply::<Array, B, 1, 1>(operands, results) }
        }
        Kernel { tiles: 1, columns: 1, run: run::<B> }
    }

    fn float<F: FloatFormat>() -> Kernel {
        unsafe fn run<F: FloatFormat>(_: usize, operands: &Operands, results: &mut Results) {
            // SAFETY: the caller's promise.
            unsafe { float_kernel::multiply::<Array, F, 1, 1>(operands, results) }
        }
        Kernel { tiles: 1, columns: 1, run: run::<F> }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::lanes_avx2::Ymm2;
    use super::super::lanes_avx512::Zmm;
    use super::{Block, FloatFormat, Kernel, Level, Operands, Results, float_kernel, integer_kernel};

    /// Two tiles by up to six columns: 12 sums and 12 dots in 32 registers.
    pub(super) struct Avx512;

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn block512<B: Block, const C: usize>(operands: &Operands, results: &mut Results) {
        // SAFETY: the caller's promise.
        unsafe { integer_kernel::multiply::<Zmm, B, 2, C>(operands, results) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn float512<F: FloatFormat, const C: usize>(operands: &Operands, results: &mut Results) {
        // SAFETY: the caller's promise.
        unsafe { float_kernel::multiply::<Zmm, F, 2, C>(operands, results) }
    }

    impl Level for Avx512 {
        fn block<B: Block>() -> Kernel {
            unsafe fn run<B: Block>(n_columns: usize, operands: &Operands, results: &mut Results) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => block512::<B, 1>(operands, results),
                        2 => block512::<B, 2>(operands, results),
                        3 | 4 => block512::<B, 4>(operands, results),
                        _ => block512::<B, 6>(operands, results),
                    }
                }
            }
            Kernel { tiles: 2, columns: 6, run: run::<B> }
        }

        fn float<F: FloatFormat>() -> Kernel {
            unsafe fn run<F: FloatFormat>(n_columns: usize, operands: &Operands, results: &mut Results) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => float512::<F, 1>(operands, results),
                        2 => float512::<F, 2>(operands, results),
                        3 | 4 => float512::<F, 4>(operands, results),
                        _ => float512::<F, 6>(operands, results),
                    }
                }
            }
            Kernel { tiles: 2, columns: 6, run: run::<F> }
        }
    }

    /// One tile by up to four columns: 8 dots in 16 registers, the sums in memory between groups.
    pub(super) struct Avx2;

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn block256<B: Block, const C: usize>(operands: &Operands, results: &mut Results) {
        // SAFETY: the caller's promise.
        unsafe { integer_kernel::multiply::<Ymm2, B, 1, C>(operands, results) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn float256<F: FloatFormat, const C: usize>(operands: &Operands, results: &mut Results) {
        // SAFETY: the caller's promise.
        unsafe { float_kernel::multiply::<Ymm2, F, 1, C>(operands, results) }
    }

    impl Level for Avx2 {
        fn block<B: Block>() -> Kernel {
            unsafe fn run<B: Block>(n_columns: usize, operands: &Operands, results: &mut Results) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => block256::<B, 1>(operands, results),
                        2 => block256::<B, 2>(operands, results),
                        _ => block256::<B, 4>(operands, results),
                    }
                }
            }
            Kernel { tiles: 1, columns: 4, run: run::<B> }
        }

        fn float<F: FloatFormat>() -> Kernel {
            unsafe fn run<F: FloatFormat>(n_columns: usize, operands: &Operands, results: &mut Results) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => float256::<F, 1>(operands, results),
                        2 => float256::<F, 2>(operands, results),
                        _ => float256::<F, 4>(operands, results),
                    }
                }
            }
            Kernel { tiles: 1, columns: 4, run: run::<F> }
        }
    }
}
