//! Collectives: what a list of devices holds afterwards, given what each held before.

use super::array::Array;
use super::elementwise::{BinaryKind, binary};
use super::layout::{concat, slice};

/// Every device gets the sum of all parts, which have one shape.
///
/// # Panics
/// If there is no part.
pub fn all_reduce(parts: &[Array]) -> Vec<Array> {
    vec![total(parts); parts.len()]
}

/// Every device gets all parts one after the other along `axis`; parts may have different extents there.
///
/// # Panics
/// If there is no part.
pub fn all_gather(parts: &[Array], axis: usize) -> Vec<Array> {
    let all: Vec<&Array> = parts.iter().collect();
    vec![concat(&all, axis); parts.len()]
}

/// Device `i` gets `extents[i]` elements of `axis` of the sum of all parts.
///
/// # Panics
/// If the extents do not add up to the axis.
pub fn reduce_scatter(parts: &[Array], axis: usize, extents: &[usize]) -> Vec<Array> {
    let total = total(parts);
    assert_eq!(
        extents.iter().sum::<usize>(),
        total.shape[axis],
        "extents {extents:?} of axis {axis}"
    );
    let mut start = 0;
    extents
        .iter()
        .map(|extent| {
            let piece = slice(&total, axis, start, start + extent);
            start += extent;
            piece
        })
        .collect()
}

fn total(parts: &[Array]) -> Array {
    let mut total = Array::filled(&parts[0].shape, 0.0);
    for part in parts {
        assert_eq!(part.shape, total.shape, "parts of a sum differ in shape");
        total = binary(BinaryKind::Add, &total, part);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduce_scatter_then_all_gather_is_all_reduce() {
        let parts: Vec<Array> = (0..3)
            .map(|device| Array::from_fn(&[2, 5], |i| (device * 100 + i[0] * 10 + i[1]) as f64))
            .collect();
        let scattered = reduce_scatter(&parts, 1, &[3, 0, 2]);
        assert_eq!(scattered[1].shape, [2, 0]);
        assert_eq!(all_gather(&scattered, 1), all_reduce(&parts));
        assert_eq!(all_reduce(&parts)[2].at(&[1, 4]), 342.0);
    }
}
