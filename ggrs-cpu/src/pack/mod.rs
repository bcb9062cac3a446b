//! The operands of the matrix products: weights repacked in tiles of 16 rows, activations quantised in groups of 32.
//!
//! It must not know which kernel will read them, nor graphs, threads or buffers.

mod activations;
mod error;
mod matrix;
mod tiles;

pub use activations::{ActivationGroup, GROUP_ELEMS, QuantizedRows, quantize_activations};
pub use error::PackError;
pub use matrix::PackedMatrix;
pub use tiles::{TILE_ROWS, pack, packed_bytes, tile_bytes, tile_count, unpack};
