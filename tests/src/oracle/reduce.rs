//! Sums: over an axis, mean, running.

use super::array::Array;

/// The sum over `axis`, which stays with extent 1.
pub fn sum(x: &Array, axis: usize) -> Array {
    let mut shape = x.shape.clone();
    shape[axis] = 1;
    Array::from_fn(&shape, |out_idx| {
        let mut idx = out_idx.to_vec();
        let mut total = 0.0;
        for i in 0..x.shape[axis] {
            idx[axis] = i;
            total += x.at(&idx);
        }
        total
    })
}

/// The mean over `axis`, which stays with extent 1.
pub fn mean(x: &Array, axis: usize) -> Array {
    sum(x, axis).map(|v| v / x.shape[axis] as f64)
}

/// The running sum along the last axis, the element itself included.
pub fn cumsum(x: &Array) -> Array {
    x.map_rows(|row| {
        let mut total = 0.0;
        row.iter()
            .map(|v| {
                total += v;
                total
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_axis_sums_like_the_last_one() {
        let x = Array::from_fn(&[2, 3], |i| (i[0] * 10 + i[1]) as f64);
        assert_eq!(sum(&x, 0).data, [10.0, 12.0, 14.0]);
        assert_eq!(mean(&x, 1).data, [1.0, 11.0]);
    }
}
