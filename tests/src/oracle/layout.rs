//! Moving elements without changing them: reshape, permute, slice, broadcast, concat. No arithmetic on values.

use super::array::Dense;

/// The same elements in row-major order under another shape.
///
/// # Panics
/// If the element counts differ.
pub fn reshape<T: Copy>(x: &Dense<T>, shape: &[usize]) -> Dense<T> {
    Dense::new(shape, x.data.clone())
}

/// Axis `i` of the result is axis `axes[i]` of `x`.
///
/// # Panics
/// If `axes` is not a permutation of the axes of `x`.
pub fn permute<T: Copy>(x: &Dense<T>, axes: &[usize]) -> Dense<T> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    assert!(
        sorted.into_iter().eq(0..x.rank()),
        "{axes:?} does not permute shape {:?}",
        x.shape
    );
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape[axis]).collect();
    Dense::from_fn(&shape, |out_idx| {
        let mut idx = vec![0; x.rank()];
        for (out_axis, &axis) in axes.iter().enumerate() {
            idx[axis] = out_idx[out_axis];
        }
        x.at(&idx)
    })
}

/// Elements `start..end` of `axis`.
///
/// # Panics
/// If the range does not lie in the axis.
pub fn slice<T: Copy>(x: &Dense<T>, axis: usize, start: usize, end: usize) -> Dense<T> {
    assert!(
        start <= end && end <= x.shape[axis],
        "{start}..{end} of axis {axis} of shape {:?}",
        x.shape
    );
    let mut shape = x.shape.clone();
    shape[axis] = end - start;
    Dense::from_fn(&shape, |out_idx| {
        let mut idx = out_idx.to_vec();
        idx[axis] += start;
        x.at(&idx)
    })
}

/// Numpy broadcasting: axes are aligned at the last one; an axis that is 1 or missing repeats.
///
/// # Panics
/// If another axis differs from `shape`.
pub fn broadcast<T: Copy>(x: &Dense<T>, shape: &[usize]) -> Dense<T> {
    assert!(
        x.rank() <= shape.len(),
        "shape {:?} does not broadcast to {shape:?}",
        x.shape
    );
    let n_new = shape.len() - x.rank();
    for (&extent, &wanted) in x.shape.iter().zip(&shape[n_new..]) {
        assert!(
            extent == wanted || extent == 1,
            "shape {:?} does not broadcast to {shape:?}",
            x.shape
        );
    }
    Dense::from_fn(shape, |out_idx| {
        let idx: Vec<usize> = out_idx[n_new..]
            .iter()
            .zip(&x.shape)
            .map(|(&i, &extent)| if extent == 1 { 0 } else { i })
            .collect();
        x.at(&idx)
    })
}

/// The parts one after the other along `axis`.
///
/// # Panics
/// If there is no part, or the parts differ in another axis.
pub fn concat<T: Copy>(parts: &[&Dense<T>], axis: usize) -> Dense<T> {
    let mut shape = parts[0].shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    for part in parts {
        let mut expected = shape.clone();
        expected[axis] = part.shape[axis];
        assert_eq!(
            part.shape, expected,
            "parts differ in an axis other than {axis}"
        );
    }
    Dense::from_fn(&shape, |out_idx| {
        let mut idx = out_idx.to_vec();
        let mut part_idx = 0;
        while idx[axis] >= parts[part_idx].shape[axis] {
            idx[axis] -= parts[part_idx].shape[axis];
            part_idx += 1;
        }
        parts[part_idx].at(&idx)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permute_moves_axes_as_numpy_transpose() {
        let x = Dense::from_fn(&[2, 3, 4], |i| i[0] * 100 + i[1] * 10 + i[2]);
        let y = permute(&x, &[2, 0, 1]);
        assert_eq!(y.shape, [4, 2, 3]);
        assert_eq!(y.at(&[3, 1, 2]), 123);
    }

    #[test]
    fn slices_concatenate_back_along_every_axis() {
        let x = Dense::from_fn(&[2, 3, 4], |i| i[0] * 100 + i[1] * 10 + i[2]);
        for axis in 0..3 {
            let parts = [
                slice(&x, axis, 0, 1),
                slice(&x, axis, 1, 1),
                slice(&x, axis, 1, x.shape[axis]),
            ];
            assert_eq!(concat(&parts.each_ref(), axis), x);
        }
    }

    #[test]
    fn broadcast_adds_leading_axes_and_stretches_ones() {
        let x = Dense::new(&[2, 1], vec![5, 6]);
        assert_eq!(
            broadcast(&x, &[2, 2, 3]).data,
            [5, 5, 5, 6, 6, 6, 5, 5, 5, 6, 6, 6]
        );
    }
}
