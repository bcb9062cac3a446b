//! Views in front of an op: how an operand lies in the leaf that holds it.

use ggrs_core::{DType, GraphBuilder, GraphError, Value};

use crate::oracle::{self, Dense};

/// How an operand lies in its leaf. Where there are too few axes, a view is the plain tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The leaf itself.
    Plain,
    /// All axes but the last in reverse order.
    OuterReversed,
    /// All axes in reverse order: the last one has gaps. Not for block formats.
    Transposed,
    /// Part of the rows' width, off any alignment.
    Columns,
    /// Part of the outermost axis.
    Rows,
    /// One index of this axis, repeated.
    Repeated(usize),
}

impl View {
    /// Views that keep the last axis whole: what every op takes.
    pub const ROWS_WHOLE: [Self; 5] = [
        Self::Plain,
        Self::OuterReversed,
        Self::Columns,
        Self::Rows,
        Self::Repeated(0),
    ];

    /// All kinds: what elementwise ops and copies take.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::OuterReversed,
        Self::Transposed,
        Self::Columns,
        Self::Rows,
        Self::Repeated(0),
    ];

    /// The order of axes in the leaf; an order that undoes itself.
    fn axes(self, rank: usize) -> Option<Vec<usize>> {
        match self {
            Self::OuterReversed if rank > 1 => {
                Some((0..rank - 1).rev().chain([rank - 1]).collect())
            }
            Self::Transposed => Some((0..rank).rev().collect()),
            _ => None,
        }
    }

    /// The axis that is cut, and how many elements of the leaf are left out before and behind.
    fn cut(self, rank: usize, dtype: DType) -> Option<(usize, usize, usize)> {
        let last = rank.checked_sub(1)?;
        match self {
            Self::Rows if last > 0 => Some((0, 1, 2)),
            Self::Rows | Self::Columns if dtype.is_block() => {
                Some((last, dtype.block_elems(), dtype.block_elems()))
            }
            Self::Rows | Self::Columns => Some((last, 3, 2)),
            _ => None,
        }
    }

    /// The axis that is repeated.
    fn repeated(self, rank: usize) -> Option<usize> {
        match self {
            Self::Repeated(axis) if axis + 1 < rank => Some(axis),
            _ => None,
        }
    }

    /// Shape of the leaf behind an operand of this shape.
    pub fn leaf_shape(self, shape: &[usize], dtype: DType) -> Vec<usize> {
        let rank = shape.len();
        let mut leaf = match self.axes(rank) {
            Some(axes) => axes.iter().map(|&axis| shape[axis]).collect(),
            None => shape.to_vec(),
        };
        if let Some((axis, before, behind)) = self.cut(rank, dtype) {
            leaf[axis] += before + behind;
        }
        if let Some(axis) = self.repeated(rank) {
            leaf[axis] = 1;
        }
        leaf
    }

    /// Adds the view's ops.
    pub(super) fn build(
        self,
        graph: &mut GraphBuilder,
        leaf: Value,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Value, GraphError> {
        let rank = shape.len();
        if let Some(axes) = self.axes(rank) {
            return graph.permute(leaf, &axes);
        }
        if let Some((axis, before, _)) = self.cut(rank, dtype) {
            return graph.slice(leaf, axis, before, shape[axis]);
        }
        if self.repeated(rank).is_some() {
            return graph.broadcast(leaf, shape);
        }
        Ok(leaf)
    }

    /// The operand, from the leaf's values.
    pub fn of<T: Copy>(self, leaf: &Dense<T>, shape: &[usize], dtype: DType) -> Dense<T> {
        let rank = shape.len();
        if let Some(axes) = self.axes(rank) {
            return oracle::permute(leaf, &axes);
        }
        if let Some((axis, before, _)) = self.cut(rank, dtype) {
            return oracle::slice(leaf, axis, before, before + shape[axis]);
        }
        oracle::broadcast(leaf, shape)
    }

    /// The leaf with the operand written into it. Of a repeated axis the first index stays.
    pub fn write<T: Copy>(self, leaf: &Dense<T>, operand: &Dense<T>, dtype: DType) -> Dense<T> {
        let rank = operand.rank();
        let mut written = leaf.clone();
        operand.for_each_index(|idx| {
            let mut at = match self.axes(rank) {
                Some(axes) => axes.iter().map(|&axis| idx[axis]).collect(),
                None => idx.to_vec(),
            };
            if let Some((axis, before, _)) = self.cut(rank, dtype) {
                at[axis] += before;
            }
            match self.repeated(rank) {
                Some(axis) if idx[axis] > 0 => {}
                _ => written.set(&at, operand.at(idx)),
            }
        });
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_through_a_view_is_read_through_it() {
        let shape = [2, 3, 4];
        let x = Dense::from_fn(&shape, |i| (i[0] * 100 + i[1] * 10 + i[2]) as i64);
        for view in View::ALL {
            let leaf = Dense::filled(&view.leaf_shape(&shape, DType::I32), -1);
            let read = view.of(&view.write(&leaf, &x, DType::I32), &shape, DType::I32);
            let expected = match view {
                View::Repeated(_) => Dense::from_fn(&shape, |i| x.at(&[0, i[1], i[2]])),
                _ => x.clone(),
            };
            assert_eq!(read, expected, "{view:?}");
        }
    }

    #[test]
    fn too_few_axes_leave_the_tensor_plain() {
        for view in [View::OuterReversed, View::Repeated(0), View::Transposed] {
            assert_eq!(view.leaf_shape(&[5], DType::F32), [5]);
        }
        assert_eq!(View::Rows.leaf_shape(&[32], DType::Q8_0), [96]);
        for view in View::ALL {
            assert_eq!(view.leaf_shape(&[], DType::F32), [0; 0]);
        }
    }
}
