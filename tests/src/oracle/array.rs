//! A dense row-major array of any rank. It knows shapes and indices, and no arithmetic.

/// A dense array: `shape` outermost axis first, `data` in row-major order (the last axis is contiguous).
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// Extent of every axis, outermost first.
    pub shape: Vec<usize>,
    /// All elements in row-major order.
    pub data: Vec<T>,
}

/// Floating-point values of the oracle.
pub type Array = Dense<f64>;

/// Ids, positions and slots.
pub type IntArray = Dense<i64>;

impl<T: Copy> Dense<T> {
    /// An array over `data`.
    ///
    /// # Panics
    /// If `data` does not have as many elements as `shape` says.
    pub fn new(shape: &[usize], data: Vec<T>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "shape {shape:?} does not hold the given data"
        );
        Self {
            shape: shape.to_vec(),
            data,
        }
    }

    /// Every element equal to `value`.
    pub fn filled(shape: &[usize], value: T) -> Self {
        Self::new(shape, vec![value; shape.iter().product()])
    }

    /// The element at every index is `f(index)`; indices are visited in row-major order.
    pub fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> T) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        for_each_index(shape, |idx| data.push(f(idx)));
        Self::new(shape, data)
    }

    /// Calls `f` with every index, in row-major order.
    pub fn for_each_index(&self, f: impl FnMut(&[usize])) {
        for_each_index(&self.shape, f);
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Extent of the last axis, the length of a row; 1 for a scalar.
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Place of `idx` in `data`.
    ///
    /// # Panics
    /// If `idx` has another rank or lies outside the array.
    pub fn offset(&self, idx: &[usize]) -> usize {
        assert_eq!(
            idx.len(),
            self.rank(),
            "index {idx:?} into shape {:?}",
            self.shape
        );
        idx.iter()
            .zip(&self.shape)
            .fold(0, |offset, (&i, &extent)| {
                assert!(i < extent, "index {idx:?} into shape {:?}", self.shape);
                offset * extent + i
            })
    }

    /// The element at `idx`.
    ///
    /// # Panics
    /// As [`Dense::offset`].
    pub fn at(&self, idx: &[usize]) -> T {
        self.data[self.offset(idx)]
    }

    /// Replaces the element at `idx`.
    ///
    /// # Panics
    /// As [`Dense::offset`].
    pub fn set(&mut self, idx: &[usize], value: T) {
        let offset = self.offset(idx);
        self.data[offset] = value;
    }

    /// The same shape, every element replaced by `f` of it.
    pub fn map<U: Copy>(&self, f: impl FnMut(T) -> U) -> Dense<U> {
        Dense::new(&self.shape, self.data.iter().copied().map(f).collect())
    }

    /// The same shape, every row (last axis) replaced by `f` of it; rows keep their length.
    pub fn map_rows<U: Copy>(&self, f: impl FnMut(&[T]) -> Vec<U>) -> Dense<U> {
        let data = if self.data.is_empty() {
            Vec::new()
        } else {
            self.data.chunks(self.row_len()).flat_map(f).collect()
        };
        Dense::new(&self.shape, data)
    }
}

fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut idx = vec![0; shape.len()];
    for _ in 0..shape.iter().product() {
        f(&idx);
        for axis in (0..shape.len()).rev() {
            idx[axis] += 1;
            if idx[axis] < shape[axis] {
                break;
            }
            idx[axis] = 0;
        }
    }
}

impl IntArray {
    /// The element at `idx` as an index.
    ///
    /// # Panics
    /// If it is negative, or as [`Dense::offset`].
    pub fn index_at(&self, idx: &[usize]) -> usize {
        let value = self.at(idx);
        assert!(value >= 0, "negative index {value} at {idx:?}");
        value as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_fn_visits_the_last_axis_first() {
        let a = Dense::from_fn(&[2, 3], |i| i[0] * 10 + i[1]);
        assert_eq!(a.data, [0, 1, 2, 10, 11, 12]);
        assert_eq!(a.at(&[1, 2]), 12);
        assert_eq!(Dense::from_fn(&[2, 0], |_| 1).data, [0; 0]);
        assert_eq!(Dense::from_fn(&[], |_| 7).data, [7]);
    }

    #[test]
    #[should_panic(expected = "index [0, 3] into shape [2, 3]")]
    fn an_index_outside_is_caught_even_if_the_offset_exists() {
        Dense::filled(&[2, 3], 0.0).at(&[0, 3]);
    }
}
