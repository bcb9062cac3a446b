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
    let n_columns = columns.len();
    for first in (0..n_columns).step_by(resident) {
        let last = n_columns.min(first + resident);
        for tile in tiles.clone().step_by(kernel.tiles) {
            let tile_range = tile..tiles.end.min(tile + kernel.tiles);
            multiply_tiles(
                &kernel,
                weights,
                tile_range,
                &rows,
                (&columns, first..last),
                output,
            );
        }
    }
    Ok(())
}

/// Multiplies as many tiles as one kernel call takes by a range of the columns.
fn multiply_tiles(
    kernel: &Kernel,
    weights: &PackedMatrix<'_>,
    tiles: Range<usize>,
    rows: &Rows<'_>,
    (columns, range): (&Columns<'_>, Range<usize>),
    output: &mut Output<'_>,
) {
    let start = |tile: usize| {
        let start = tile * weights.tile_bytes();
        weights
            .bytes()
            .get(start..start + weights.tile_bytes())
            .map(<[u8]>::as_ptr)
    };
    let Some(first_tile) = start(tiles.start) else {
        return;
    };
    // A kernel for more tiles than are left multiplies the first one again; the second result is not written.
    let mut operands = Operands {
        tiles: [first_tile; MAX_TILES],
        columns: [std::ptr::null(); MAX_COLUMNS],
        n_blocks: weights.k() / weights.dtype().block_elems(),
    };
    for (pointer, tile) in operands.tiles.iter_mut().zip(tiles.clone()) {
        *pointer = start(tile).unwrap_or(first_tile);
    }
    let mut results: Results = [[[0.0; TILE_ROWS]; MAX_COLUMNS]; MAX_TILES];
    // Calls of equal size: 7 columns are 4 and 3, not 6 and 1.
    let n = range.len();
    let n_calls = n.div_ceil(kernel.columns);
    for call in 0..n_calls {
        let part = range.start + n * call / n_calls..range.start + n * (call + 1) / n_calls;
        let Some(first_row) = columns
            .get(part.start)
            .and_then(|(input, _)| rows.start(input))
        else {
            return;
        };
        operands.columns = [first_row; MAX_COLUMNS];
        let mut targets = [0; MAX_COLUMNS];
        let mut n_columns = 0;
        for ((pointer, target), column) in operands.columns.iter_mut().zip(&mut targets).zip(part) {
            let Some((input, out)) = columns.get(column) else {
                return;
            };
            let Some(row) = rows.start(input) else { return };
            (*pointer, *target) = (row, out);
            n_columns += 1;
        }
        // SAFETY: `kernel` gave a kernel of this dtype that the machine can run. `rows` matches the weights' k, and the
        // tiles and columns were all just pointed at whole ones; `n_columns` is 1 to `kernel.columns`.
        unsafe { (kernel.run)(n_columns, &operands, &mut results) };
        for (tile, by_column) in tiles.clone().zip(&results) {
            let at = tile * TILE_ROWS;
            for (values, out) in by_column.iter().zip(targets).take(n_columns) {
                output.write(out, at, values, weights.n_rows());
            }
        }
    }
}
