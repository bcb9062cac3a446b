//! The product of packed weights and rows of activations: checks, cache blocking, and the calls of the kernels.

use std::ops::Range;

use super::dispatch::{Kernel, kernel};
use super::{Columns, GemmError, Output};
use crate::isa::Isa;
use crate::pack::{ActivationGroup, GROUP_ELEMS, PackedMatrix, QuantizedRows, TILE_ROWS};

/// Tiles that one kernel call multiplies at most.
pub(super) const MAX_TILES: usize = 2;

/// Columns that one kernel call multiplies at most.
pub(super) const MAX_COLUMNS: usize = 16;

/// The products of one kernel call, by tile, column and row.
pub(super) type Results = [[[f32; TILE_ROWS]; MAX_COLUMNS]; MAX_TILES];

/// What one kernel call multiplies.
pub(super) struct Operands {
    /// Where the packed tiles begin.
    pub(super) tiles: [*const u8; MAX_TILES],
    /// Where the columns' rows begin: activation groups or F32 values.
    pub(super) columns: [*const u8; MAX_COLUMNS],
    /// Blocks of the weights' format in a row.
    pub(super) n_blocks: usize,
}

/// Bytes of activations that are multiplied by all tiles before the next ones: they stay in the second-level cache.
const RESIDENT_BYTES: usize = 384 * 1024;

/// The activations of a product.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// For block formats.
    Quantized(QuantizedRows<'a>),
    /// For float formats: rows of `k` values, one after the other.
    Floats {
        /// The values.
        values: &'a [f32],
        /// Elements in a row.
        k: usize,
    },
}

impl<'a> Inputs<'a> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Quantized(_) => "quantised",
            Self::Floats { .. } => "F32",
        }
    }

    /// The bytes of all rows, the bytes of one, and how many there are, for weights [_, k] of a matching dtype.
    fn rows(&self, weights: &PackedMatrix<'_>) -> Result<Rows<'a>, GemmError> {
        let dtype = weights.dtype();
        let inner = |inputs_k| GemmError::Inner {
            dtype,
            weights_k: weights.k(),
            inputs_k,
        };
        match self {
            Self::Quantized(rows) if dtype.is_block() => {
                if rows.k() != weights.k() {
                    return Err(inner(rows.k()));
                }
                let bytes = bytemuck::cast_slice(rows.groups());
                let row_bytes = rows.k() / GROUP_ELEMS * size_of::<ActivationGroup>();
                Ok(Rows {
                    bytes,
                    row_bytes,
                    n_rows: rows.n_rows(),
                })
            }
            Self::Floats { values, k } if dtype.is_float() => {
                if *k != weights.k() {
                    return Err(inner(*k));
                }
                let n_rows = values.len().checked_div(*k).unwrap_or(0);
                if n_rows * k != values.len() {
                    return Err(GemmError::PartialRow {
                        n_elems: values.len(),
                        k: *k,
                    });
                }
                Ok(Rows {
                    bytes: bytemuck::cast_slice(values),
                    row_bytes: k * size_of::<f32>(),
                    n_rows,
                })
            }
            _ => {
                let expected = if dtype.is_block() { "quantised" } else { "F32" };
                Err(GemmError::InputKind {
                    dtype,
                    expected,
                    found: self.kind(),
                })
            }
        }
    }
}

/// Input rows as bytes.
struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    n_rows: usize,
}

impl Rows<'_> {
    /// Where a row begins; `None` if it is not there.
    fn start(&self, row: usize) -> Option<*const u8> {
        let start = row.checked_mul(self.row_bytes)?;
        let bytes = self.bytes.get(start..start.checked_add(self.row_bytes)?)?;
        Some(bytes.as_ptr())
    }
}

/// Checks every column's rows, and that the output's rows take the weights' rows.
fn check_columns(
    weights: &PackedMatrix<'_>,
    rows: &Rows<'_>,
    columns: &Columns<'_>,
    output: &Output<'_>,
) -> Result<(), GemmError> {
    if output.width() < weights.n_rows() {
        return Err(GemmError::OutputWidth {
            width: output.width(),
            n_rows: weights.n_rows(),
        });
    }
    let check = |input: usize, out: usize| {
        if input >= rows.n_rows {
            return Err(GemmError::InputRow {
                row: input,
                n_rows: rows.n_rows,
            });
        }
        if out >= output.n_rows() {
            return Err(GemmError::OutputRow {
                row: out,
                n_rows: output.n_rows(),
            });
        }
        Ok(())
    };
    match columns {
        Columns::Dense { n: 0, .. } => Ok(()),
        Columns::Dense { start, n } => {
            let last = start.saturating_add(n - 1);
            check(last, last)
        }
        Columns::Routed(list) => list
            .iter()
            .try_for_each(|c| check(c.input as usize, c.output as usize)),
    }
}

/// Multiplies the 16-row tiles `tiles` of the weights [n_rows, k] by columns of activations [_, k].
///
/// Output row `o` of a column with input row `i` receives `sum over k of weights[r, k] * inputs[i, k]` at `r`, for the
/// rows `r` of the tiles; other values are left alone. Threads split a product by tiles (see [`Output::share`]).
///
/// # Errors
/// Inputs of the wrong kind or width, tiles or rows that are not there, or output rows that are too short.
pub fn matmul(
    isa: Isa,
    weights: &PackedMatrix<'_>,
    tiles: Range<usize>,
    inputs: &Inputs<'_>,
    columns: Columns<'_>,
    output: &mut Output<'_>,
) -> Result<(), GemmError> {
    let rows = inputs.rows(weights)?;
    check_columns(weights, &rows, &columns, output)?;
    if tiles.start > tiles.end || tiles.end > weights.n_tiles() {
        return Err(GemmError::TileRange {
            tiles,
            n_tiles: weights.n_tiles(),
        });
    }
    let Some(kernel) = kernel(isa, weights.dtype(), columns.len()) else {
        return Err(GemmError::InputKind {
            dtype: weights.dtype(),
            expected: "no",
            found: inputs.kind(),
        });
    };
    // Whole kernel calls' worth of columns that stay in the cache together.
    let resident = (RESIDENT_BYTES / rows.row_bytes.max(1)).max(kernel.columns);
    let resident = resident - resident % kernel.columns;
    let product = Product {
        kernel,
        weights,
        rows,
        columns,
    };
    let mut results: Results = [[[0.0; TILE_ROWS]; MAX_COLUMNS]; MAX_TILES];
    for first in (0..columns.len()).step_by(resident) {
        let part = first..columns.len().min(first + resident);
        for tile in tiles.clone().step_by(kernel.tiles) {
            let tile_range = tile..tiles.end.min(tile + kernel.tiles);
            product.multiply(tile_range, part.clone(), &mut results, output);
        }
    }
    Ok(())
}

/// A product that was checked.
struct Product<'a> {
    kernel: Kernel,
    weights: &'a PackedMatrix<'a>,
    rows: Rows<'a>,
    columns: Columns<'a>,
}

impl Product<'_> {
    /// Where a packed tile begins.
    fn tile(&self, tile: usize) -> Option<*const u8> {
        let bytes = self.weights.tile_bytes();
        let tile = self.weights.bytes().get(tile * bytes..(tile + 1) * bytes)?;
        Some(tile.as_ptr())
    }

    /// Input row and output row of a column: where the one begins, the number of the other.
    fn column(&self, column: usize) -> Option<(*const u8, usize)> {
        let (input, output) = self.columns.get(column)?;
        Some((self.rows.start(input)?, output))
    }

    /// Multiplies as many tiles as one kernel call takes by a range of the columns.
    fn multiply(
        &self,
        tiles: Range<usize>,
        columns: Range<usize>,
        results: &mut Results,
        output: &mut Output<'_>,
    ) {
        let Some(first_tile) = self.tile(tiles.start) else {
            return;
        };
        // Where a kernel takes more tiles or columns than there are, it multiplies the first one again, for nothing.
        let mut operands = Operands {
            tiles: [first_tile; MAX_TILES],
            columns: [std::ptr::null(); MAX_COLUMNS],
            n_blocks: self.weights.k() / self.weights.dtype().block_elems(),
        };
        for (pointer, tile) in operands.tiles.iter_mut().zip(tiles.clone()) {
            *pointer = self.tile(tile).unwrap_or(first_tile);
        }
        // Calls of equal size: 7 columns are 4 and 3, not 6 and 1.
        let n = columns.len();
        let n_calls = n.div_ceil(self.kernel.columns);
        for call in 0..n_calls {
            let part = columns.start + n * call / n_calls..columns.start + n * (call + 1) / n_calls;
            let Some((first_column, _)) = self.column(part.start) else {
                return;
            };
            operands.columns = [first_column; MAX_COLUMNS];
            let mut targets = [0; MAX_COLUMNS];
            let n_columns = part.len();
            for (c, column) in part.enumerate() {
                let (Some((row, out)), Some(pointer), Some(target)) = (
                    self.column(column),
                    operands.columns.get_mut(c),
                    targets.get_mut(c),
                ) else {
                    return;
                };
                (*pointer, *target) = (row, out);
            }
            // SAFETY: the kernel is one of the weights' dtype that the machine can run. The rows match the weights' k,
            // and all tiles and columns were just pointed at whole ones; `n_columns` is 1 to `kernel.columns`.
            unsafe { (self.kernel.run)(n_columns, &operands, results) };
            for (tile, by_column) in tiles.clone().zip(results.iter()) {
                for (values, out) in by_column.iter().zip(targets).take(n_columns) {
                    output.write(out, tile * TILE_ROWS, values, self.weights.n_rows());
                }
            }
        }
    }
}
