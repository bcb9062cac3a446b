//! The transpose of an F32 matrix, by squares of vectors.

use super::lanes::Lanes;

/// `to[j][i] = from[i][j]` for the `rows` by `cols` matrix `from`; consecutive rows are `from_stride` and `to_stride`
/// elements apart. Rows of `to` are filled with zeros up to a whole vector, where their stride has room for it.
#[inline(always)]
pub(crate) fn transpose<L: Lanes>(
    lanes: L,
    (rows, cols): (usize, usize),
    (from, from_stride): (&[f32], usize),
    (to, to_stride): (&mut [f32], usize),
) {
    for top in (0..rows).step_by(L::N) {
        for left in (0..cols).step_by(L::N) {
            let width = L::N.min(cols - left);
            let mut square = lanes.square();
            for (i, vector) in square.as_mut().iter_mut().enumerate() {
                let start = (top + i) * from_stride + left;
                let row = (top + i < rows).then(|| from.get(start..start + width));
                *vector = lanes.load(row.flatten().unwrap_or_default());
            }
            let mut square = lanes.transpose(square);
            let room = L::N.min(to_stride.saturating_sub(top));
            for (j, vector) in square.as_mut().iter().enumerate().take(width) {
                let start = (left + j) * to_stride + top;
                if let Some(column) = to.get_mut(start..start + room) {
                    lanes.store(*vector, column);
                }
            }
        }
    }
}
