//! Errors of a matrix product.

use std::ops::Range;

use ggrs_core::DType;

/// Why a product cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GemmError {
    /// Weights and inputs have rows of different lengths.
    #[error("the {dtype} weights have rows of {weights_k} elements, the inputs have {inputs_k}")]
    Inner {
        /// The weights' dtype.
        dtype: DType,
        /// Elements in a row of weights.
        weights_k: usize,
        /// Elements in a row of inputs.
        inputs_k: usize,
    },
    /// Block formats take quantised inputs, float formats take F32 inputs.
    #[error("{dtype} weights take {expected} inputs, found {found} ones")]
    InputKind {
        /// The weights' dtype.
        dtype: DType,
        /// The kind of inputs that they take.
        expected: &'static str,
        /// The kind of inputs that were given.
        found: &'static str,
    },
    /// F32 inputs are not whole rows.
    #[error("{n_elems} F32 inputs are not a whole number of rows of {k}")]
    PartialRow {
        /// Elements given.
        n_elems: usize,
        /// Elements in a row.
        k: usize,
    },
    /// A range of tiles ends behind the last one.
    #[error("tiles {tiles:?} are outside the weights, which have {n_tiles} tiles of 16 rows")]
    TileRange {
        /// The tiles asked for.
        tiles: Range<usize>,
        /// Tiles of the matrix.
        n_tiles: usize,
    },
    /// A column reads an input row that is not there.
    #[error("a column reads input row {row}, but there are {n_rows} rows")]
    InputRow {
        /// The row asked for.
        row: usize,
        /// Rows of the inputs.
        n_rows: usize,
    },
    /// A column writes an output row that is not there.
    #[error("a column writes output row {row}, but there are {n_rows} rows")]
    OutputRow {
        /// The row asked for.
        row: usize,
        /// Rows of the output.
        n_rows: usize,
    },
    /// The output's rows are shorter than the weights have rows.
    #[error("output rows hold {width} values, but the weights give {n_rows}")]
    OutputWidth {
        /// Values in an output row.
        width: usize,
        /// Rows of the weights.
        n_rows: usize,
    },
    /// The output's buffer does not hold its rows.
    #[error("{n_rows} output rows of {width} values, {stride} apart, do not fit {len} values")]
    OutputLength {
        /// Output rows.
        n_rows: usize,
        /// Values in an output row.
        width: usize,
        /// Values from one row's start to the next one's.
        stride: usize,
        /// Values in the buffer.
        len: usize,
    },
}
