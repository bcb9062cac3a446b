//! The packed layout of weights: 16 rows side by side, bit for bit the original blocks.
//!
//! A *tile* is 16 rows. Within a tile the blocks follow each other along k, and within a block every unit of the
//! format's struct (an F16 scale, a word of four quants, ...) is stored 16 times in a row, once for each row:
//!
//! ```text
//! original   row 0: d q0 q1 q2 q3 | d q0 ...       packed   d(rows 0..16) q0(rows 0..16) q1(rows 0..16) ... | d(rows 0..16) ...
//!            row 1: d q0 q1 q2 q3 | d q0 ...
//! ```
//!
//! So one 64-byte load takes the same four quants of 16 rows, which is the operand of the integer dot products (and of
//! the matrix tiles), and code for one block works on 16 rows at once. Nothing is recoded: the packed size is the
//! original one, the missing rows of the last tile are zeros, and unpacking gives back the original bytes.

use std::ops::Range;

use ggrs_core::DType;

use super::PackError;

/// Rows in a tile.
pub const TILE_ROWS: usize = 16;

/// Runs of equal units in a block, in order: (bytes of a unit, how many of them).
pub(crate) const fn block_units(dtype: DType) -> &'static [(usize, usize)] {
    match dtype {
        DType::F32 => &[(4, 1)],
        DType::F16 | DType::BF16 => &[(2, 1)],
        // d, qs
        DType::Q4_0 | DType::IQ4_NL => &[(2, 1), (4, 4)],
        // d, m, qs
        DType::Q4_1 => &[(2, 2), (4, 4)],
        // d, qh, qs
        DType::Q5_0 => &[(2, 1), (4, 5)],
        // d, m, qh, qs
        DType::Q5_1 => &[(2, 2), (4, 5)],
        // d, qs
        DType::Q8_0 => &[(2, 1), (4, 8)],
        // scales, qs, d, dmin
        DType::Q2_K => &[(4, 20), (2, 2)],
        // hmask, qs, scales, d
        DType::Q3_K => &[(4, 27), (2, 1)],
        // d, dmin, scales, qs
        DType::Q4_K => &[(2, 2), (4, 35)],
        // d, dmin, scales, qh, qs
        DType::Q5_K => &[(2, 2), (4, 43)],
        // ql, qh, scales, d
        DType::Q6_K => &[(4, 52), (2, 1)],
        // d, scales_h, scales_l, qs
        DType::IQ4_XS => &[(2, 2), (4, 33)],
        // e, qs
        DType::MXFP4 => &[(1, 1), (4, 4)],
        DType::I32 | DType::I64 => &[],
    }
}

/// Tiles of a matrix of `n_rows` rows; the last one may be partly empty.
pub const fn tile_count(n_rows: usize) -> usize {
    n_rows.div_ceil(TILE_ROWS)
}

/// Bytes of one packed tile of rows of `k` elements; `None` for integers, partial blocks and sizes that overflow.
pub const fn tile_bytes(dtype: DType, k: usize) -> Option<usize> {
    if dtype.is_int() {
        return None;
    }
    match dtype.row_bytes(k) {
        Some(row_bytes) => row_bytes.checked_mul(TILE_ROWS),
        None => None,
    }
}

/// Bytes of a packed matrix [n_rows, k]; `None` as for [`tile_bytes`].
pub const fn packed_bytes(dtype: DType, n_rows: usize, k: usize) -> Option<usize> {
    match tile_bytes(dtype, k) {
        Some(bytes) => bytes.checked_mul(tile_count(n_rows)),
        None => None,
    }
}

/// A matrix [n_rows, k] whose sizes are known not to overflow.
struct Extent {
    dtype: DType,
    n_rows: usize,
    k: usize,
    row_bytes: usize,
    tile_bytes: usize,
    packed_bytes: usize,
    original_bytes: usize,
}

impl Extent {
    fn new(dtype: DType, n_rows: usize, k: usize) -> Result<Self, PackError> {
        let sizes = || {
            let row_bytes = dtype.row_bytes(k)?;
            let original_bytes = n_rows.checked_mul(row_bytes)?;
            Some((
                row_bytes,
                tile_bytes(dtype, k)?,
                packed_bytes(dtype, n_rows, k)?,
                original_bytes,
            ))
        };
        let (row_bytes, tile_bytes, packed_bytes, original_bytes) =
            sizes().ok_or(PackError::Unsupported {
                dtype,
                n_rows,
                k,
                block_elems: dtype.block_elems(),
            })?;
        Ok(Self {
            dtype,
            n_rows,
            k,
            row_bytes,
            tile_bytes,
            packed_bytes,
            original_bytes,
        })
    }

    fn check_length(
        &self,
        what: &'static str,
        expected_bytes: usize,
        found_bytes: usize,
    ) -> Result<(), PackError> {
        if expected_bytes == found_bytes {
            return Ok(());
        }
        let Self {
            dtype, n_rows, k, ..
        } = *self;
        Err(PackError::Length {
            what,
            dtype,
            n_rows,
            k,
            expected_bytes,
            found_bytes,
        })
    }

    /// Walks over the runs of equal units of a row: calls `copy(unit bytes, place in the row, place in the tile)`.
    fn for_each_run(&self, mut copy: impl FnMut(usize, Range<usize>, Range<usize>)) {
        let mut at = 0;
        let mut run = |unit: usize, count: usize| {
            let end = at + unit * count;
            copy(unit, at..end, at * TILE_ROWS..end * TILE_ROWS);
            at = end;
        };
        if self.dtype.is_block() {
            for _ in 0..self.k / self.dtype.block_elems() {
                for &(unit, count) in block_units(self.dtype) {
                    run(unit, count);
                }
            }
        } else {
            run(self.dtype.block_bytes(), self.k);
        }
    }

    /// Stores a row in its lane of a tile.
    fn put(&self, row: &[u8], lane: usize, tile: &mut [u8]) {
        self.for_each_run(|unit, from, to| {
            let (Some(units), Some(lines)) = (row.get(from), tile.get_mut(to)) else {
                return;
            };
            match unit {
                1 => put_units::<1>(units, lane, lines),
                2 => put_units::<2>(units, lane, lines),
                _ => put_units::<4>(units, lane, lines),
            }
        });
    }

    /// Reads a row from its lane of a tile.
    fn take(&self, tile: &[u8], lane: usize, row: &mut [u8]) {
        self.for_each_run(|unit, to, from| {
            let (Some(units), Some(lines)) = (row.get_mut(to), tile.get(from)) else {
                return;
            };
            match unit {
                1 => take_units::<1>(lines, lane, units),
                2 => take_units::<2>(lines, lane, units),
                _ => take_units::<4>(lines, lane, units),
            }
        });
    }
}

fn put_units<const UNIT: usize>(units: &[u8], lane: usize, lines: &mut [u8]) {
    let lines = lines.chunks_exact_mut(UNIT * TILE_ROWS);
    for (unit, line) in units.as_chunks::<UNIT>().0.iter().zip(lines) {
        if let Some(place) = line.as_chunks_mut::<UNIT>().0.get_mut(lane) {
            *place = *unit;
        }
    }
}

fn take_units<const UNIT: usize>(lines: &[u8], lane: usize, units: &mut [u8]) {
    let lines = lines.chunks_exact(UNIT * TILE_ROWS);
    for (unit, line) in units.as_chunks_mut::<UNIT>().0.iter_mut().zip(lines) {
        if let Some(place) = line.as_chunks::<UNIT>().0.get(lane) {
            *unit = *place;
        }
    }
}

/// Packs the 16-row tiles `tiles` of the row-major matrix [n_rows, k].
///
/// `original` is the whole matrix, `packed` the place of just these tiles, so that several threads can pack disjoint
/// ranges of tiles. The missing rows of the last tile become zeros.
///
/// # Errors
/// An integer dtype, rows that are not whole blocks, tiles outside the matrix, or buffers of the wrong length.
pub fn pack(
    dtype: DType,
    (n_rows, k): (usize, usize),
    original: &[u8],
    tiles: Range<usize>,
    packed: &mut [u8],
) -> Result<(), PackError> {
    let extent = Extent::new(dtype, n_rows, k)?;
    let n_tiles = tile_count(n_rows);
    if tiles.start > tiles.end || tiles.end > n_tiles {
        return Err(PackError::TileRange { tiles, n_tiles });
    }
    extent.check_length("the original", extent.original_bytes, original.len())?;
    extent.check_length(
        "this range of packed tiles",
        tiles.len() * extent.tile_bytes,
        packed.len(),
    )?;
    if k == 0 {
        return Ok(());
    }
    for (tile_idx, tile) in tiles.zip(packed.chunks_exact_mut(extent.tile_bytes)) {
        let rows = original
            .get(tile_idx * extent.tile_bytes..)
            .unwrap_or_default();
        let rows = rows.chunks_exact(extent.row_bytes).take(TILE_ROWS);
        if rows.len() < TILE_ROWS {
            tile.fill(0);
        }
        for (lane, row) in rows.enumerate() {
            extent.put(row, lane, tile);
        }
    }
    Ok(())
}

/// Gives back the original bytes of `rows` of a packed matrix [n_rows, k].
///
/// `packed` is the whole matrix, `original` the place of just these rows.
///
/// # Errors
/// As [`pack`].
pub fn unpack(
    dtype: DType,
    (n_rows, k): (usize, usize),
    packed: &[u8],
    rows: Range<usize>,
    original: &mut [u8],
) -> Result<(), PackError> {
    let extent = Extent::new(dtype, n_rows, k)?;
    if rows.start > rows.end || rows.end > n_rows {
        return Err(PackError::RowRange { rows, n_rows });
    }
    extent.check_length("the packed layout", extent.packed_bytes, packed.len())?;
    extent.check_length(
        "this range of original rows",
        rows.len() * extent.row_bytes,
        original.len(),
    )?;
    if k == 0 {
        return Ok(());
    }
    for (row_idx, row) in rows.zip(original.chunks_exact_mut(extent.row_bytes)) {
        let tile = packed
            .get(row_idx / TILE_ROWS * extent.tile_bytes..)
            .unwrap_or_default();
        extent.take(tile, row_idx % TILE_ROWS, row);
    }
    Ok(())
}
