//! The transpose of an F32 matrix, by squares of vectors.

use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// `to[j][i] = from[i][j]` for the `rows` by `cols` matrix `from`; consecutive rows are `from_stride` and `to_stride`
/// elements apart. Rows of `to` are filled with zeros up to a whole vector, where their stride has room for it.
pub(crate) fn transpose(
    isa: Isa,
    (rows, cols): (usize, usize),
    (from, from_stride): (&[f32], usize),
    (to, to_stride): (&mut [f32], usize),
) {
    dispatch(
        isa,
        Transpose {
            rows,
            cols,
            from,
            from_stride,
            to,
            to_stride,
        },
    );
}

struct Transpose<'a> {
    rows: usize,
    cols: usize,
    from: &'a [f32],
    from_stride: usize,
    to: &'a mut [f32],
    to_stride: usize,
}

impl Task for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for top in (0..self.rows).step_by(L::N) {
            let room = L::N.min(self.to_stride.saturating_sub(top));
            for left in (0..self.cols).step_by(L::N) {
                let width = L::N.min(self.cols - left);
                let mut square = lanes.square();
                for (i, vector) in square.as_mut().iter_mut().enumerate() {
                    let start = (top + i) * self.from_stride + left;
                    let row = (top + i < self.rows).then(|| self.from.get(start..start + width));
                    *vector = lanes.load(row.flatten().unwrap_or_default());
                }
                let mut square = lanes.transpose(square);
                for (j, vector) in square.as_mut().iter().enumerate().take(width) {
                    let start = (left + j) * self.to_stride + top;
                    if let Some(column) = self.to.get_mut(start..start + room) {
                        lanes.store(*vector, column);
                    }
                }
            }
        }
    }
}
