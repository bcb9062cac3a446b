//! A borrowed packed matrix whose sizes were checked once.

use ggrs_core::DType;

use super::{PackError, packed_bytes, tile_bytes, tile_count};

/// Packed weights [n_rows, k]; see [`super::pack`].
#[derive(Clone, Copy, Debug)]
pub struct PackedMatrix<'a> {
    dtype: DType,
    n_rows: usize,
    k: usize,
    tile_bytes: usize,
    packed: &'a [u8],
}

impl<'a> PackedMatrix<'a> {
    /// Borrows the packed bytes of a matrix [n_rows, k].
    ///
    /// # Errors
    /// A dtype or width without a packed layout, or bytes of another length than it takes.
    pub fn new(dtype: DType, n_rows: usize, k: usize, packed: &'a [u8]) -> Result<Self, PackError> {
        let (Some(tile_bytes), Some(expected_bytes)) =
            (tile_bytes(dtype, k), packed_bytes(dtype, n_rows, k))
        else {
            return Err(PackError::Unsupported {
                dtype,
                n_rows,
                k,
                block_elems: dtype.block_elems(),
            });
        };
        if packed.len() != expected_bytes {
            let what = "the packed layout";
            return Err(PackError::Length {
                what,
                dtype,
                n_rows,
                k,
                expected_bytes,
                found_bytes: packed.len(),
            });
        }
        Ok(Self {
            dtype,
            n_rows,
            k,
            tile_bytes,
            packed,
        })
    }

    /// The weights' dtype.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows: the outputs of a product.
    pub const fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Elements in a row: the inputs of a product.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Tiles of 16 rows.
    pub const fn n_tiles(&self) -> usize {
        tile_count(self.n_rows)
    }

    /// Bytes of one tile.
    pub const fn tile_bytes(&self) -> usize {
        self.tile_bytes
    }

    /// The packed bytes: `n_tiles * tile_bytes`.
    pub const fn bytes(&self) -> &'a [u8] {
        self.packed
    }
}
