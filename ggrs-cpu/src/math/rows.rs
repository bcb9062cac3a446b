//! Rows of the formats that caches and activations have, as F32: one by one, gathered, or gathered and turned.
//!
//! The meaning of the formats is `formats`'; the paths here give the same bits, faster. Other formats are left to it.

use std::marker::PhantomData;

use ggrs_core::DType;

use super::lanes::{Lanes, Task, dispatch};
use super::product::VECTOR;
use crate::formats::{FormatError, dequantize_row};
use crate::isa::Isa;

/// A format whose elements can be read a vector at a time.
trait Format {
    /// The elements of a row from `column` (a multiple of the vector) on; zeros behind the row's end.
    fn load<L: Lanes>(lanes: L, row: &[u8], column: usize) -> L::Floats;
}

/// The bytes from `start` on.
#[inline(always)]
fn from(row: &[u8], start: usize) -> &[u8] {
    row.get(start..).unwrap_or_default()
}

struct F32;
impl Format for F32 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, row: &[u8], column: usize) -> L::Floats {
        lanes.load_f32_bytes(from(row, 4 * column).as_chunks().0)
    }
}

struct F16;
impl Format for F16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, row: &[u8], column: usize) -> L::Floats {
        lanes.load_f16(from(row, 2 * column).as_chunks().0)
    }
}

struct Bf16;
impl Format for Bf16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, row: &[u8], column: usize) -> L::Floats {
        lanes.load_bf16(from(row, 2 * column).as_chunks().0)
    }
}

/// Elements of a block of the block formats here.
const BLOCK: usize = 32;

/// The block of `N` bytes that `column` is in, and the column in it; zeros behind the row's end.
#[inline(always)]
fn block_at<const N: usize>(row: &[u8], column: usize) -> (&[u8; N], usize) {
    let block = from(row, column / BLOCK * N).first_chunk();
    (block.unwrap_or(&[0; N]), column % BLOCK)
}

struct Q8_0;
impl Format for Q8_0 {
    /// A block is an F16 scale and 32 signed bytes.
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, row: &[u8], column: usize) -> L::Floats {
        let (block, at) = block_at::<34>(row, column);
        let scale = lanes.splat_f16([block[0], block[1]]);
        lanes.mul(scale, lanes.load_i8(&block[2 + at..]))
    }
}

struct Q4_0;
impl Format for Q4_0 {
    /// A block is an F16 scale and 16 bytes, whose low halves are the first 16 elements; 8 stands for 0.
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, row: &[u8], column: usize) -> L::Floats {
        let (block, at) = block_at::<18>(row, column);
        let scale = lanes.splat_f16([block[0], block[1]]);
        let x = if at < BLOCK / 2 {
            lanes.load_low_nibbles(&block[2 + at..])
        } else {
            lanes.load_high_nibbles(&block[2 + at - BLOCK / 2..])
        };
        lanes.mul(scale, lanes.sub(x, lanes.splat(8.0)))
    }
}

/// Runs an expression with `$format` as the type of `$dtype`, or another if it has none.
macro_rules! with_format {
    ($dtype:expr, $format:ident => $body:expr, else $other:expr) => {
        match $dtype {
            DType::F32 => {
                type $format = F32;
                $body
            }
            DType::F16 => {
                type $format = F16;
                $body
            }
            DType::BF16 => {
                type $format = Bf16;
                $body
            }
            DType::Q8_0 => {
                type $format = Q8_0;
                $body
            }
            DType::Q4_0 => {
                type $format = Q4_0;
                $body
            }
            _ => $other,
        }
    };
}

#[inline(always)]
fn read<L: Lanes, F: Format>(lanes: L, row: &[u8], out: &mut [f32]) {
    for (i, out) in out.chunks_mut(L::N).enumerate() {
        lanes.store(F::load(lanes, row, i * L::N), out);
    }
}

struct ReadRow<'a, F> {
    row: &'a [u8],
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Format> Task for ReadRow<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        read::<L, F>(lanes, self.row, self.out);
    }
}

/// Reads a gapless row of any float or block format as F32, with the bits of [`dequantize_row`].
///
/// # Errors
/// As [`dequantize_row`]: an integer dtype, a row that does not end on a block, `bytes` of another length than `out`
/// needs.
pub fn read_row(isa: Isa, dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), FormatError> {
    if dtype.row_bytes(out.len()) != Some(bytes.len()) {
        return dequantize_row(dtype, bytes, out);
    }
    with_format!(dtype, F => {
        let format = PhantomData::<F>;
        dispatch(isa, ReadRow { row: bytes, out, format });
        Ok(())
    }, else dequantize_row(dtype, bytes, out))
}

/// Can rows of this dtype be gathered?
pub(crate) const fn can_gather(dtype: DType) -> bool {
    with_format!(dtype, F => { let _ = PhantomData::<F>; true }, else false)
}

/// Where gathered rows go.
pub(crate) struct Gathered<'a> {
    /// How many rows.
    pub(crate) n_rows: usize,
    /// Elements of a row.
    pub(crate) width: usize,
    /// The matrix of gathered rows, or its transpose.
    pub(crate) out: &'a mut [f32],
    /// From a row of `out` to the next.
    pub(crate) stride: usize,
}

struct Gather<'a, F, R> {
    row: R,
    to: Gathered<'a>,
    format: PhantomData<F>,
}

impl<'r, F: Format, R: Fn(usize) -> &'r [u8]> Task for Gather<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let rows = self.to.out.chunks_mut(self.to.stride.max(1));
        for (i, out) in rows.enumerate().take(self.to.n_rows) {
            if let Some(out) = out.get_mut(..self.to.width) {
                read::<L, F>(lanes, (self.row)(i), out);
            }
        }
    }
}

/// Gathers gapless rows of a dtype that [`can_gather`] knows. `row` gives their bytes.
pub(crate) fn gather<'r>(
    isa: Isa,
    dtype: DType,
    row: impl Fn(usize) -> &'r [u8],
    to: Gathered<'_>,
) {
    with_format!(dtype, F => {
        let format = PhantomData::<F>;
        dispatch(isa, Gather { row, to, format });
    }, else debug_assert!(false, "{dtype} is not gathered"));
}

struct GatherTurned<'a, F, R>(Gather<'a, F, R>);

impl<'r, F: Format, R: Fn(usize) -> &'r [u8]> Task for GatherTurned<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Gather { row, to, .. } = self.0;
        for top in (0..to.n_rows).step_by(L::N) {
            let mut rows: [&[u8]; VECTOR] = [&[]; VECTOR];
            for (i, bytes) in rows.iter_mut().enumerate().take(L::N.min(to.n_rows - top)) {
                *bytes = row(top + i);
            }
            for left in (0..to.width).step_by(L::N) {
                let mut square = lanes.square();
                for (vector, row) in square.as_mut().iter_mut().zip(rows) {
                    *vector = F::load(lanes, row, left);
                }
                let mut square = lanes.transpose(square);
                let columns = square.as_mut().iter().zip(left..to.width);
                for (vector, column) in columns {
                    let start = column * to.stride + top;
                    if let Some(out) = to.out.get_mut(start..start + L::N) {
                        lanes.store(*vector, out);
                    }
                }
            }
        }
    }
}

/// Gathers rows as [`gather`] does and turns the matrix: `out[j][i] = row(i)[j]`. Rows of `out` have room for `n_rows`
/// rounded up to a vector; what is behind `n_rows` becomes 0.
pub(crate) fn gather_turned<'r>(
    isa: Isa,
    dtype: DType,
    row: impl Fn(usize) -> &'r [u8],
    to: Gathered<'_>,
) {
    debug_assert!(to.n_rows.next_multiple_of(VECTOR) <= to.stride);
    with_format!(dtype, F => {
        let format = PhantomData::<F>;
        dispatch(isa, GatherTurned(Gather { row, to, format }));
    }, else debug_assert!(false, "{dtype} is not gathered"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_rows_are_those_of_the_format_and_turned_they_are_its_columns() {
        for dtype in [
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::Q8_0,
            DType::Q4_0,
        ] {
            for (n_rows, width) in [(1, 32), (16, 64), (19, 96), (33, 32)] {
                let row_bytes = dtype.row_bytes(width).expect("whole blocks");
                // No infinities or NaN in any format.
                let bytes: Vec<u8> = (0..n_rows * row_bytes)
                    .map(|i| (i * 37 % 251) as u8 & 0xbf)
                    .collect();
                // Rows in disorder.
                let row = |i: usize| {
                    let at = (i * 5 + 2) % n_rows;
                    &bytes[at * row_bytes..(at + 1) * row_bytes]
                };
                let mut truth = vec![0.0; n_rows * width];
                for (i, truth) in truth.chunks_mut(width).enumerate() {
                    dequantize_row(dtype, row(i), truth).expect("whole blocks");
                }
                for isa in Isa::available() {
                    let (stride, turned_stride) = (width + 5, 48);
                    let mut rows = vec![7.0; n_rows * stride];
                    let mut turned = vec![7.0; width * turned_stride];
                    let to = |out, stride| Gathered {
                        n_rows,
                        width,
                        out,
                        stride,
                    };
                    gather(isa, dtype, row, to(&mut rows, stride));
                    gather_turned(isa, dtype, row, to(&mut turned, turned_stride));
                    for (i, j) in (0..n_rows).flat_map(|i| (0..width).map(move |j| (i, j))) {
                        let truth = truth[i * width + j];
                        assert_eq!(rows[i * stride + j], truth, "{isa} {dtype} {i},{j}");
                        assert_eq!(
                            turned[j * turned_stride + i],
                            truth,
                            "{isa} {dtype} {i},{j}"
                        );
                    }
                    assert!(
                        rows.chunks(stride)
                            .all(|row| row[width..].iter().all(|x| *x == 7.0))
                    );
                }
            }
        }
    }
}
