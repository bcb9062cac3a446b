//! Errors of the row conversions.

use ggrs_core::DType;

/// Why a row cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The dtype holds no floating-point values.
    #[error("{dtype} is not a floating-point format: it has no F32 values")]
    NotFloat {
        /// The dtype.
        dtype: DType,
    },
    /// Values can be read from the format, but GGRS cannot write it.
    #[error(
        "values cannot be converted to {dtype}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and IQ4_NL can be written"
    )]
    NotWritable {
        /// The dtype.
        dtype: DType,
    },
    /// The row does not end on a block.
    #[error("a row of {n_elems} elements is not a whole number of {dtype} blocks of {block_elems}")]
    PartialBlock {
        /// The dtype.
        dtype: DType,
        /// Elements in the row.
        n_elems: usize,
        /// Elements in a block.
        block_elems: usize,
    },
    /// The bytes are too few or too many for the elements.
    #[error(
        "a row of {n_elems} {dtype} elements takes {expected_bytes} bytes, found {found_bytes}"
    )]
    Length {
        /// The dtype.
        dtype: DType,
        /// Elements in the row.
        n_elems: usize,
        /// Bytes that they take.
        expected_bytes: usize,
        /// Bytes that were given.
        found_bytes: usize,
    },
}
