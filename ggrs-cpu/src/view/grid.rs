//! Sizes and strides of a tensor: from a row's number or an index to an offset. It must not know memory.

use ggrs_core::{MAX_RANK, TensorDesc};

/// Sizes and strides, in elements. A *row* is the last axis; rows are numbered over the outer axes, last one fastest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    rank: usize,
    sizes: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
    n_rows: usize,
    /// Elements from each row to the next, if that is the same everywhere.
    row_step: Option<usize>,
}

impl Grid {
    /// The grid of a described tensor; its offset is left to the pointer.
    pub(crate) fn new(desc: &TensorDesc) -> Self {
        Self::from_parts(&desc.shape.sizes(), desc.layout.strides())
    }

    fn from_parts(shape: &[usize], steps: &[usize]) -> Self {
        let (mut sizes, mut strides) = ([1; MAX_RANK], [0; MAX_RANK]);
        let rank = shape.len().min(MAX_RANK);
        for ((size, stride), (n, step)) in sizes
            .iter_mut()
            .zip(&mut strides)
            .zip(shape.iter().zip(steps))
        {
            (*size, *stride) = (*n, *step);
        }
        let outer = rank.saturating_sub(1);
        let mut grid = Self {
            rank,
            sizes,
            strides,
            n_rows: 1,
            row_step: None,
        };
        // Axes of size 1 say nothing; the others must each step over exactly the ones after it.
        let mut step: Option<usize> = None;
        let mut uniform = true;
        for (size, stride) in sizes
            .iter()
            .zip(&strides)
            .take(outer)
            .rev()
            .filter(|(size, _)| **size != 1)
        {
            match step {
                None => step = Some(*stride),
                Some(inner) => uniform &= *stride == inner.saturating_mul(grid.n_rows),
            }
            grid.n_rows = grid.n_rows.saturating_mul(*size);
        }
        grid.row_step = uniform.then_some(step.unwrap_or(0));
        grid
    }

    /// The sizes, outermost first.
    pub(crate) fn shape(&self) -> &[usize] {
        self.sizes.get(..self.rank).unwrap_or_default()
    }

    /// The strides, outermost first.
    pub(crate) fn strides(&self) -> &[usize] {
        self.strides.get(..self.rank).unwrap_or_default()
    }

    /// The size of an axis counted from the end (0 is the last); 1 if there is none.
    #[allow(
        clippy::wrong_self_convention,
        reason = "the name that ggrs-core gives it"
    )]
    pub(crate) fn from_end(&self, i: usize) -> usize {
        self.rank
            .checked_sub(i + 1)
            .and_then(|axis| self.sizes.get(axis))
            .copied()
            .unwrap_or(1)
    }

    /// Rows: the product of all sizes but the last.
    pub(crate) const fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Elements in a row; 1 for a scalar.
    pub(crate) fn width(&self) -> usize {
        self.from_end(0)
    }

    /// All elements.
    pub(crate) fn n_elems(&self) -> usize {
        self.n_rows * self.width()
    }

    /// Elements between neighbours in a row.
    pub(crate) fn elem_step(&self) -> usize {
        match self
            .rank
            .checked_sub(1)
            .and_then(|axis| self.strides.get(axis))
        {
            Some(step) if self.width() > 1 => *step,
            _ => 1,
        }
    }

    /// Are all elements one behind the other?
    pub(crate) fn is_contiguous(&self) -> bool {
        self.elem_step() == 1 && (self.n_rows <= 1 || self.row_step == Some(self.width()))
    }

    /// Where a row begins.
    pub(crate) fn row_offset(&self, row: usize) -> usize {
        if let Some(step) = self.row_step {
            return row * step;
        }
        let mut rest = row;
        let mut offset = 0;
        let outer = self.rank.saturating_sub(1);
        for (size, stride) in self.sizes.iter().zip(&self.strides).take(outer).rev() {
            offset += rest % size * stride;
            rest /= size;
        }
        offset
    }

    /// The first `width` columns.
    pub(crate) fn with_width(&self, width: usize) -> Self {
        let mut sizes = self.sizes;
        if let Some(last) = self
            .rank
            .checked_sub(1)
            .and_then(|axis| sizes.get_mut(axis))
        {
            *last = width;
        }
        Self { sizes, ..*self }
    }

    /// The same elements with axes in the order `axes`.
    pub(crate) fn permute(&self, axes: &[usize]) -> Self {
        let pick = |of: &[usize]| {
            axes.iter()
                .filter_map(|&a| of.get(a).copied())
                .collect::<Vec<_>>()
        };
        Self::from_parts(&pick(self.shape()), &pick(self.strides()))
    }

    /// Repeated to `shape`, aligned at the last axis.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Self {
        let lead = shape.len().saturating_sub(self.rank);
        let strides: Vec<usize> = (0..shape.len())
            .map(|axis| {
                match axis
                    .checked_sub(lead)
                    .map(|a| (self.sizes.get(a), self.strides.get(a)))
                {
                    Some((Some(size), Some(stride))) if *size != 1 => *stride,
                    _ => 0,
                }
            })
            .collect();
        Self::from_parts(shape, &strides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(shape: &[usize], strides: &[usize]) -> Grid {
        Grid::from_parts(shape, strides)
    }

    #[test]
    fn rows_are_found_by_number() {
        for g in [
            grid(&[2, 3, 4], &[12, 4, 1]),
            grid(&[2, 3, 4], &[4, 8, 1]),
            grid(&[2, 3, 4], &[0, 4, 1]),
        ] {
            let s = g.strides().to_vec();
            for (row, (i, j)) in (0..2).flat_map(|i| (0..3).map(move |j| (i, j))).enumerate() {
                assert_eq!(g.row_offset(row), i * s[0] + j * s[1]);
            }
        }
    }

    #[test]
    fn contiguity_ignores_axes_of_one() {
        assert!(grid(&[2, 3, 4], &[12, 4, 1]).is_contiguous());
        assert!(grid(&[1, 3, 4], &[7, 4, 1]).is_contiguous());
        assert!(grid(&[1, 1], &[9, 9]).is_contiguous());
        assert!(!grid(&[2, 3, 4], &[4, 8, 1]).is_contiguous());
        assert!(!grid(&[3, 4], &[1, 3]).is_contiguous());
        assert!(grid(&[], &[]).is_contiguous());
    }

    #[test]
    fn broadcast_and_permute() {
        let b = grid(&[3, 1], &[1, 1]).broadcast(&[2, 3, 4]);
        assert_eq!((b.shape(), b.strides()), (&[2, 3, 4][..], &[0, 1, 0][..]));
        assert_eq!(b.n_rows(), 6);
        let p = grid(&[2, 3, 4], &[12, 4, 1]).permute(&[1, 0, 2]);
        assert_eq!(p.row_offset(1), 12);
    }
}
