//! The product of two small F32 matrices that lie in cache, by register tiles.

use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// A matrix whose rows lie `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    /// The first row starts here.
    pub(crate) values: &'a [f32],
    /// From a row to the next.
    pub(crate) stride: usize,
}

/// A product of `rows` rows, `cols` columns and `depth` terms in each sum.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Rows of `a` and `c`.
    pub(crate) rows: usize,
    /// Columns of `a`, rows of `b`.
    pub(crate) depth: usize,
    /// Columns of `b` and `c`.
    pub(crate) cols: usize,
}

/// Have `rows` rows of `width` elements room in `len` elements?
const fn fits(len: usize, stride: usize, rows: usize, width: usize) -> bool {
    rows == 0 || (rows - 1) * stride + width <= len
}

/// `c = a b`, or `c += a b` if `add`: `a` `[rows, depth]`, `b` `[depth, cols]`, `c` `[rows, cols]` with rows that lie
/// `c_stride` elements apart.
///
/// Columns are computed by whole vectors: rows of `b` and `c` must have room for `cols` rounded up to [`VECTOR`]; what
/// stands there in `c` is overwritten. Matrices without that room are left alone.
pub(crate) fn multiply(
    isa: Isa,
    extent: Extent,
    a: Factor<'_>,
    b: Factor<'_>,
    (c, c_stride): (&mut [f32], usize),
    add: bool,
) {
    let width = extent.cols.next_multiple_of(VECTOR);
    let room = fits(a.values.len(), a.stride, extent.rows, extent.depth)
        && fits(b.values.len(), b.stride, extent.depth, width)
        && fits(c.len(), c_stride, extent.rows, width);
    debug_assert!(room, "a matrix is too small for its product");
    if room {
        dispatch(
            isa,
            Multiply {
                extent,
                a,
                b,
                c,
                c_stride,
                add,
            },
        );
    }
}

/// Lanes of the widest level.
pub(crate) const VECTOR: usize = 16;

/// A product whose matrices have room for whole vectors.
struct Multiply<'a> {
    extent: Extent,
    a: Factor<'a>,
    b: Factor<'a>,
    c: &'a mut [f32],
    c_stride: usize,
    add: bool,
}

impl Task for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self {
            extent,
            a,
            b,
            c,
            c_stride,
            add,
        } = self;
        let vectors = extent.cols.div_ceil(L::N);
        let mut at = 0;
        while at < vectors {
            let pair = vectors - at >= 2;
            let column = at * L::N;
            let mut row = 0;
            while row < extent.rows {
                let tile = Tile {
                    a: a.values.as_ptr().wrapping_add(row * a.stride),
                    a_stride: a.stride,
                    b: b.values.as_ptr().wrapping_add(column),
                    b_stride: b.stride,
                    c: c.as_mut_ptr().wrapping_add(row * c_stride + column),
                    c_stride,
                    depth: extent.depth,
                    add,
                };
                let left = (extent.rows - row).min(L::TILE_ROWS);
                // SAFETY: the matrices have room for all rows and whole vectors (`multiply`), and the tile lies inside.
                row += unsafe {
                    match (left, pair) {
                        (8.., true) => tile.run::<L, 8, 2>(lanes),
                        (4.., true) => tile.run::<L, 4, 2>(lanes),
                        (2.., true) => tile.run::<L, 2, 2>(lanes),
                        (_, true) => tile.run::<L, 1, 2>(lanes),
                        (8.., false) => tile.run::<L, 8, 1>(lanes),
                        (4.., false) => tile.run::<L, 4, 1>(lanes),
                        (2.., false) => tile.run::<L, 2, 1>(lanes),
                        (_, false) => tile.run::<L, 1, 1>(lanes),
                    }
                };
            }
            at += if pair { 2 } else { 1 };
        }
    }
}

/// Some rows by one or two vectors of the product.
struct Tile {
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    depth: usize,
    add: bool,
}

impl Tile {
    /// Computes `R` rows by `V` vectors; gives `R`.
    ///
    /// # Safety
    /// `a` is readable for `R` rows of `depth` elements, `b` for `depth` rows of `V` vectors, `c` is writable for `R` rows
    /// of `V` vectors and apart from both.
    #[inline(always)]
    unsafe fn run<L: Lanes, const R: usize, const V: usize>(&self, lanes: L) -> usize {
        // SAFETY: the caller's promise; all vectors are whole ones.
        unsafe {
            let vector = |at: *const f32| std::slice::from_raw_parts(at, L::N);
            let mut sums = [[lanes.splat(0.0); V]; R];
            if self.add {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = lanes.load(vector(self.c.add(r * self.c_stride + v * L::N)));
                    }
                }
            }
            for k in 0..self.depth {
                let mut b = [lanes.splat(0.0); V];
                for (v, b) in b.iter_mut().enumerate() {
                    *b = lanes.load(vector(self.b.add(k * self.b_stride + v * L::N)));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = lanes.splat(*self.a.add(r * self.a_stride + k));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = lanes.mul_add(a, b, *sum);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let at = self.c.add(r * self.c_stride + v * L::N);
                    lanes.store(*sum, std::slice::from_raw_parts_mut(at, L::N));
                }
            }
        }
        R
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: every product is exact in F32.
    fn matrix(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7 + seed) * (i + 3) % 17) as f32 - 8.0)
            .collect()
    }

    #[test]
    fn tiles_of_every_shape_and_level() {
        for isa in Isa::available() {
            for (rows, depth, cols) in [
                (0, 4, 4),
                (1, 1, 1),
                (5, 0, 3),
                (8, 64, 64),
                (15, 9, 16),
                (17, 5, 33),
                (3, 40, 49),
            ] {
                let (a_stride, b_stride, c_stride) = (depth + 3, 80, 96);
                let a = matrix(rows * a_stride, 1);
                let b = matrix(depth * b_stride, 2);
                let before = matrix(rows * c_stride, 3);
                for add in [false, true] {
                    let mut c = before.clone();
                    let extent = Extent { rows, depth, cols };
                    let (a, b) = (
                        Factor {
                            values: &a,
                            stride: a_stride,
                        },
                        Factor {
                            values: &b,
                            stride: b_stride,
                        },
                    );
                    multiply(isa, extent, a, b, (&mut c, c_stride), add);
                    for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                        let products = (0..depth)
                            .map(|k| a.values[i * a_stride + k] * b.values[k * b_stride + j]);
                        let start = if add { before[i * c_stride + j] } else { 0.0 };
                        let truth = start + products.sum::<f32>();
                        assert_eq!(
                            c[i * c_stride + j],
                            truth,
                            "{isa} {rows}x{depth}x{cols} at {i},{j}"
                        );
                    }
                    let behind = cols.next_multiple_of(VECTOR);
                    for i in 0..rows {
                        let rest = i * c_stride + behind..(i + 1) * c_stride;
                        assert_eq!(
                            c[rest.clone()],
                            before[rest],
                            "{isa}: written behind the end"
                        );
                    }
                }
            }
        }
    }
}
