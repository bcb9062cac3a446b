//! The element formats of GGUF files: bytes to F32 and F32 to bytes, one row at a time, bit-exact.
//!
//! It must not know graphs, threads or the packed layout of the matrix products.

mod blocks32;
mod error;
mod floats;
mod k_quants;
mod rows;
mod table4;

pub use error::FormatError;
pub use rows::{can_quantize, dequantize_row, quantize_row};
pub(crate) use table4::{E2M1_DOUBLED, IQ4_VALUES, e8m0_half};
