//! Errors of packing weights and quantising activations.

use std::ops::Range;

use ggrs_core::DType;

/// Why a matrix cannot be packed or read back, or activations cannot be quantised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The dtype or the width has no packed layout.
    #[error(
        "a {dtype} matrix of {n_rows} rows of {k} elements has no packed layout: rows must be whole blocks of {block_elems} floating-point elements"
    )]
    Unsupported {
        /// The dtype.
        dtype: DType,
        /// Rows of the matrix.
        n_rows: usize,
        /// Elements in a row.
        k: usize,
        /// Elements in a block of the dtype.
        block_elems: usize,
    },
    /// A buffer has the wrong length.
    #[error(
        "{what} of a {dtype} matrix [{n_rows}, {k}] takes {expected_bytes} bytes, found {found_bytes}"
    )]
    Length {
        /// Which buffer.
        what: &'static str,
        /// The dtype.
        dtype: DType,
        /// Rows of the matrix.
        n_rows: usize,
        /// Elements in a row.
        k: usize,
        /// Bytes that the buffer must have.
        expected_bytes: usize,
        /// Bytes that it has.
        found_bytes: usize,
    },
    /// A range of tiles ends behind the last one.
    #[error("tiles {tiles:?} are outside the matrix, which has {n_tiles} tiles of 16 rows")]
    TileRange {
        /// The tiles asked for.
        tiles: Range<usize>,
        /// Tiles of the matrix.
        n_tiles: usize,
    },
    /// A range of rows ends behind the last one.
    #[error("rows {rows:?} are outside the matrix, which has {n_rows} rows")]
    RowRange {
        /// The rows asked for.
        rows: Range<usize>,
        /// Rows of the matrix.
        n_rows: usize,
    },
    /// Activation rows are not whole groups of 32.
    #[error("activation rows of {k} elements are not a whole number of groups of 32")]
    PartialGroup {
        /// Elements in a row.
        k: usize,
    },
    /// There are not as many activation groups as the rows need.
    #[error("{n_elems} activations take {expected} groups of 32, found {found}")]
    GroupCount {
        /// Elements of all rows.
        n_elems: usize,
        /// Groups that they take.
        expected: usize,
        /// Groups that were given.
        found: usize,
    },
}
