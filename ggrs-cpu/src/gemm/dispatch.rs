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

/// A level, able to name its kernels for every format.
trait Level {
    /// Columns up to which [`Level::block`] and [`Level::float`] are asked for the kernel that takes one tile.
    const FEW: usize;

    fn block<B: Block>(few: bool) -> Kernel;
    fn float<F: FloatFormat>(few: bool) -> Kernel;
}

/// The kernel of a format for a number of columns; `None` for integers.
///
/// For few columns the memory decides: one tile at a time is one stream of addresses, which prefetches best. For many,
/// the operations do: two tiles share what is read of the columns. A level that the machine lacks is replaced by the
/// best one that it has.
pub(super) fn kernel(isa: Isa, dtype: DType, n_columns: usize) -> Option<Kernel> {
    match isa.usable() {
        Isa::Scalar => kernel_at::<Scalar>(dtype, n_columns),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernel_at::<x86::Avx2>(dtype, n_columns),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => kernel_at::<x86::Avx512>(dtype, n_columns),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if n_columns <= x86::Amx::FEW => kernel_at::<x86::Avx512>(dtype, n_columns),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => kernel_at::<x86::Amx>(dtype, n_columns),
        #[cfg(not(target_arch = "x86_64"))]
        _ => kernel_at::<Scalar>(dtype, n_columns),
    }
}

fn kernel_at<L: Level>(dtype: DType, n_columns: usize) -> Option<Kernel> {
    let few = n_columns <= L::FEW;
    Some(match dtype {
        DType::F32 => L::float::<float_kernel::F32>(few),
        DType::F16 => L::float::<float_kernel::F16>(few),
        DType::BF16 => L::float::<float_kernel::Bf16>(few),
        DType::Q4_0 => L::block::<blocks::Q4_0>(few),
        DType::Q4_1 => L::block::<blocks::Q4_1>(few),
        DType::Q5_0 => L::block::<blocks::Q5_0>(few),
        DType::Q5_1 => L::block::<blocks::Q5_1>(few),
        DType::Q8_0 => L::block::<blocks::Q8_0>(few),
        DType::Q2_K => L::block::<blocks::Q2K>(few),
        DType::Q3_K => L::block::<blocks::Q3K>(few),
        DType::Q4_K => L::block::<blocks::Q4K>(few),
        DType::Q5_K => L::block::<blocks::Q5K>(few),
        DType::Q6_K => L::block::<blocks::Q6K>(few),
        DType::IQ4_NL => L::block::<blocks::Iq4Nl>(few),
        DType::IQ4_XS => L::block::<blocks::Iq4Xs>(few),
        DType::MXFP4 => L::block::<blocks::Mxfp4>(few),
        DType::I32 | DType::I64 => return None,
    })
}

/// Portable Rust: one tile by one column.
struct Scalar;

impl Level for Scalar {
    const FEW: usize = usize::MAX;

    fn block<B: Block>(_few: bool) -> Kernel {
        unsafe fn run<B: Block>(_: usize, operands: &Operands, results: &mut Results) {
            // SAFETY: the caller's promise.
            unsafe { integer_kernel::multiply::<Array, B, 1, 1>(operands, results) }
        }
        Kernel {
            tiles: 1,
            columns: 1,
            run: run::<B>,
        }
    }

    fn float<F: FloatFormat>(_few: bool) -> Kernel {
        unsafe fn run<F: FloatFormat>(_: usize, operands: &Operands, results: &mut Results) {
            // SAFETY: the caller's promise.
            unsafe { float_kernel::multiply::<Array, F, 1, 1, 1>(operands, results) }
        }
        Kernel {
            tiles: 1,
            columns: 1,
            run: run::<F>,
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::amx;
    use super::super::lanes_avx2::Ymm2;
    use super::super::lanes_avx512::Zmm;
    use super::{
        Block, FloatFormat, Kernel, Level, Operands, Results, float_kernel, integer_kernel,
    };

    /// Two tiles by up to six columns: 12 sums and 12 dots in 32 registers.
    pub(super) struct Avx512;

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn block512<B: Block, const T: usize, const C: usize>(
        operands: &Operands,
        results: &mut Results,
    ) {
        // SAFETY: the caller's promise.
        unsafe { integer_kernel::multiply::<Zmm, B, T, C>(operands, results) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn float512<F: FloatFormat, const T: usize, const C: usize, const RUNS: usize>(
        operands: &Operands,
        results: &mut Results,
    ) {
        // SAFETY: the caller's promise.
        unsafe { float_kernel::multiply::<Zmm, F, T, C, RUNS>(operands, results) }
    }

    impl Level for Avx512 {
        const FEW: usize = 6;

        fn block<B: Block>(few: bool) -> Kernel {
            unsafe fn one_tile<B: Block>(
                n_columns: usize,
                operands: &Operands,
                results: &mut Results,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => block512::<B, 1, 1>(operands, results),
                        2 => block512::<B, 1, 2>(operands, results),
                        3 | 4 => block512::<B, 1, 4>(operands, results),
                        _ => block512::<B, 1, 6>(operands, results),
                    }
                }
            }
            unsafe fn two_tiles<B: Block>(
                n_columns: usize,
                operands: &Operands,
                results: &mut Results,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1..=4 => block512::<B, 2, 4>(operands, results),
                        _ => block512::<B, 2, 6>(operands, results),
                    }
                }
            }
            if few {
                Kernel {
                    tiles: 1,
                    columns: 6,
                    run: one_tile::<B>,
                }
            } else {
                Kernel {
                    tiles: 2,
                    columns: 6,
                    run: two_tiles::<B>,
                }
            }
        }

        fn float<F: FloatFormat>(few: bool) -> Kernel {
            unsafe fn one_tile<F: FloatFormat>(
                n_columns: usize,
                operands: &Operands,
                results: &mut Results,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => float512::<F, 1, 1, 4>(operands, results),
                        2..=4 => float512::<F, 1, 4, 2>(operands, results),
                        _ => float512::<F, 1, 6, 2>(operands, results),
                    }
                }
            }
            unsafe fn two_tiles<F: FloatFormat>(
                n_columns: usize,
                operands: &Operands,
                results: &mut Results,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1..=4 => float512::<F, 2, 4, 1>(operands, results),
                        _ => float512::<F, 2, 6, 1>(operands, results),
                    }
                }
            }
            if few {
                Kernel {
                    tiles: 1,
                    columns: 6,
                    run: one_tile::<F>,
                }
            } else {
                Kernel {
                    tiles: 2,
                    columns: 6,
                    run: two_tiles::<F>,
                }
            }
        }
    }

    /// Two tiles by sixteen columns of quantised activations; all else is left to AVX-512.
    pub(super) struct Amx;

    impl Level for Amx {
        const FEW: usize = 12;

        fn block<B: Block>(_few: bool) -> Kernel {
            unsafe fn run<B: Block>(_: usize, operands: &Operands, results: &mut Results) {
                // SAFETY: the caller's promise.
                unsafe { amx::multiply::<B>(operands, results) }
            }
            Kernel {
                tiles: amx::TILES,
                columns: amx::COLUMNS,
                run: run::<B>,
            }
        }

        fn float<F: FloatFormat>(few: bool) -> Kernel {
            Avx512::float::<F>(few)
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
    unsafe fn float256<F: FloatFormat, const C: usize, const RUNS: usize>(
        operands: &Operands,
        results: &mut Results,
    ) {
        // SAFETY: the caller's promise.
        unsafe { float_kernel::multiply::<Ymm2, F, 1, C, RUNS>(operands, results) }
    }

    impl Level for Avx2 {
        const FEW: usize = usize::MAX;

        fn block<B: Block>(_few: bool) -> Kernel {
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
            Kernel {
                tiles: 1,
                columns: 4,
                run: run::<B>,
            }
        }

        fn float<F: FloatFormat>(_few: bool) -> Kernel {
            unsafe fn run<F: FloatFormat>(
                n_columns: usize,
                operands: &Operands,
                results: &mut Results,
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match n_columns {
                        1 => float256::<F, 1, 4>(operands, results),
                        _ => float256::<F, 4, 1>(operands, results),
                    }
                }
            }
            Kernel {
                tiles: 1,
                columns: 4,
                run: run::<F>,
            }
        }
    }
}
