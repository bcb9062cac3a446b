//! Layouts: how a tensor's elements lie in its storage. The only file that computes strides.
//!
//! Strides and offsets count elements. For block formats the last axis is always contiguous and every other stride
//! and the offset are whole blocks, so that bytes follow from elements exactly. Symbolic dimensions count at their
//! largest size; binding a graph computes its layouts anew.

use smallvec::SmallVec;

use crate::{DType, Shape};

/// Strides and offset of a tensor inside its storage, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    strides: SmallVec<[usize; 4]>,
    offset: usize,
}

impl Layout {
    /// The layout of a fresh tensor: the last axis contiguous, no gaps, no offset.
    pub fn contiguous(shape: &Shape) -> Self {
        let mut strides: SmallVec<[usize; 4]> = shape.sizes();
        let mut step = 1usize;
        for s in strides.iter_mut().rev() {
            let size = *s;
            *s = step;
            step = step.saturating_mul(size.max(1));
        }
        Self { strides, offset: 0 }
    }

    /// Elements between neighbours along each axis; 0 where a value is repeated.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Elements from the start of the storage to the first element.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Is this what [`Layout::contiguous`] makes, up to the offset? Axes of size 1 may have any stride.
    pub fn is_contiguous(&self, shape: &Shape) -> bool {
        self.contiguous_from(shape, 0)
    }

    /// Are the axes from `axis` on contiguous among themselves (rows without gaps inside)?
    pub fn contiguous_from(&self, shape: &Shape, axis: usize) -> bool {
        let mut step = 1usize;
        let sizes = shape.sizes();
        if sizes.contains(&0) {
            return true;
        }
        for (&size, &stride) in sizes.iter().zip(&self.strides).skip(axis).rev() {
            if size != 1 && stride != step {
                return false;
            }
            step = step.saturating_mul(size);
        }
        true
    }

    /// Elements of storage the tensor reaches: one past the last element it touches; 0 if it is empty.
    pub fn span(&self, shape: &Shape) -> usize {
        let mut last = self.offset;
        for (size, stride) in shape.sizes().into_iter().zip(&self.strides) {
            if size == 0 {
                return 0;
            }
            last = last.saturating_add((size - 1).saturating_mul(*stride));
        }
        last.saturating_add(1)
    }

    /// The same elements with axes in the order `axes` (a permutation, checked by the caller).
    pub(crate) fn permute(&self, axes: &[usize]) -> Self {
        let strides = axes
            .iter()
            .filter_map(|&a| self.strides.get(a).copied())
            .collect();
        Self {
            strides,
            offset: self.offset,
        }
    }

    /// The part that starts at `start` along `axis`.
    pub(crate) fn slice(&self, axis: usize, start: usize) -> Self {
        let step = self.strides.get(axis).copied().unwrap_or(0);
        Self {
            strides: self.strides.clone(),
            offset: self.offset.saturating_add(start.saturating_mul(step)),
        }
    }

    /// Repetition: axes of `from` that are 1 where `to` is not get stride 0; new leading axes too.
    pub(crate) fn broadcast(&self, from: &Shape, to: &Shape) -> Self {
        let lead = to.rank() - from.rank();
        let strides = (0..to.rank())
            .map(|axis| match axis.checked_sub(lead) {
                Some(a) if from.dim(a) == to.dim(axis) => self.strides.get(a).copied().unwrap_or(0),
                _ => 0,
            })
            .collect();
        Self {
            strides,
            offset: self.offset,
        }
    }

    /// The layout of the same storage order under another shape, if strides can express it.
    ///
    /// Axes are matched in groups of equal element count; a group must be contiguous inside itself.
    pub(crate) fn reshape(&self, from: &Shape, to: &Shape) -> Option<Self> {
        let (old, new) = (from.sizes(), to.sizes());
        if old.contains(&0) || new.contains(&0) {
            return Some(Self {
                offset: self.offset,
                ..Self::contiguous(to)
            });
        }
        let mut strides: SmallVec<[usize; 4]> = SmallVec::from_elem(1, new.len());
        let (mut i, mut j) = (0, 0);
        while i < old.len() && j < new.len() {
            let (i0, j0) = (i, j);
            let (mut a, mut b) = (*old.get(i)?, *new.get(j)?);
            (i, j) = (i + 1, j + 1);
            while a != b {
                if a < b {
                    a = a.checked_mul(*old.get(i)?)?;
                    i += 1;
                } else {
                    b = b.checked_mul(*new.get(j)?)?;
                    j += 1;
                }
            }
            // Inside the group each old axis must step over exactly the ones after it.
            let group: SmallVec<[(usize, usize); 4]> = (i0..i)
                .filter_map(|k| Some((*old.get(k)?, *self.strides.get(k)?)))
                .filter(|(n, _)| *n != 1)
                .collect();
            let mut inner = group.last().map_or(1, |(_, s)| *s);
            for w in group.windows(2) {
                if let [(_, outer), (n, s)] = w
                    && *outer != n.checked_mul(*s)?
                {
                    return None;
                }
            }
            for k in (j0..j).rev() {
                *strides.get_mut(k)? = inner;
                inner = inner.checked_mul(*new.get(k)?)?;
            }
        }
        // What is left on either side has size 1; those strides stay 1.
        Some(Self {
            strides,
            offset: self.offset,
        })
    }

    /// Does this layout keep whole blocks of `dtype` together?
    pub(crate) fn keeps_blocks(&self, dtype: DType, shape: &Shape) -> bool {
        let block = dtype.block_elems();
        if block == 1 {
            return true;
        }
        let last_ok = shape.last().bound().is_multiple_of(block)
            && self.contiguous_from(shape, shape.rank().saturating_sub(1));
        let outer = self.strides.len().saturating_sub(1);
        last_ok
            && self.offset.is_multiple_of(block)
            && self
                .strides
                .iter()
                .take(outer)
                .all(|s| s.is_multiple_of(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dims: &[usize]) -> (Shape, Layout) {
        let shape = Shape::from(dims);
        let layout = Layout::contiguous(&shape);
        (shape, layout)
    }

    #[test]
    fn contiguous_and_permuted() {
        let (shape, l) = layout(&[2, 3, 4]);
        assert_eq!(l.strides(), &[12, 4, 1]);
        assert!(l.is_contiguous(&shape));
        let p = l.permute(&[1, 0, 2]);
        let pshape = Shape::from([3, 2, 4]);
        assert!(!p.is_contiguous(&pshape));
        assert!(p.contiguous_from(&pshape, 2));
        assert_eq!(p.span(&pshape), 24);
    }

    #[test]
    fn reshape_splits_and_merges_what_strides_can_say() {
        let (shape, l) = layout(&[6, 8]);
        let to = Shape::from([2, 3, 8]);
        assert_eq!(l.reshape(&shape, &to).unwrap().strides(), &[24, 8, 1]);
        // A row slice keeps its row stride when the row is split into heads.
        let cut = l.slice(1, 4);
        let cut_shape = Shape::from([6, 4]);
        let heads = Shape::from([6, 2, 2]);
        assert_eq!(
            cut.reshape(&cut_shape, &heads).unwrap().strides(),
            &[8, 2, 1]
        );
        // Merging a strided pair of axes is not possible.
        assert!(cut.reshape(&cut_shape, &Shape::from([24])).is_none());
        assert_eq!(
            l.reshape(&shape, &Shape::from([1, 48, 1]))
                .unwrap()
                .strides()[1],
            1
        );
    }

    #[test]
    fn broadcast_strides_are_zero() {
        let (shape, l) = layout(&[1, 4]);
        let to = Shape::from([2, 3, 4]);
        let b = l.broadcast(&shape, &to);
        assert_eq!(b.strides(), &[0, 0, 1]);
        assert_eq!(b.span(&to), 4);
    }

    #[test]
    fn empty_tensors_reach_nothing() {
        let (shape, l) = layout(&[0, 4]);
        assert_eq!(l.span(&shape), 0);
        assert!(l.is_contiguous(&shape));
    }

    #[test]
    fn blocks_stay_whole() {
        let (shape, l) = layout(&[4, 64]);
        assert!(l.keeps_blocks(DType::Q8_0, &shape));
        assert!(
            !l.permute(&[1, 0])
                .keeps_blocks(DType::Q8_0, &Shape::from([64, 4]))
        );
        assert!(
            !l.slice(1, 16)
                .keeps_blocks(DType::Q8_0, &Shape::from([4, 32]))
        );
    }
}
