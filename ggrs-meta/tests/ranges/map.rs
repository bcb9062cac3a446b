//! The map itself: every range lies where a naive walk over the blocks puts it.

use ggrs_core::error::ShardError;
use ggrs_core::shard::Part;
use ggrs_core::{DType, Sharding, Split, TensorDesc};
use ggrs_meta::{RangeMap, ViewRanges};
use proptest::prelude::*;

use crate::case::{cases, fractions, pattern, range};

proptest! {
    #[test]
    fn parts_hold_what_a_walk_over_blocks_puts_there(case in cases(), at in fractions()) {
        let map = RangeMap::new(&case.desc, &case.sharding, &vec![true; case.members]).unwrap();
        let whole = pattern(case.bytes(), 1);
        let mut parts: Vec<Vec<u8>> = (0..case.members).map(|m| case.part(m, &whole)).collect();
        for (member, part) in parts.iter().enumerate() {
            prop_assert_eq!(map.part_bytes(member), part.len());
        }

        // Read: every byte once.
        let range = range(at, case.bytes());
        let mut read = vec![None; range.len()];
        for (member, part) in parts.iter().enumerate() {
            for run in map.answered(member, range.clone()) {
                for i in 0..run.bytes {
                    let place = &mut read[run.logical + i - range.start];
                    prop_assert!(place.replace(part[run.at + i]).is_none(), "read twice");
                }
            }
        }
        let expected: Vec<_> = whole[range.clone()].iter().copied().map(Some).collect();
        prop_assert_eq!(&read, &expected);

        // Written: everywhere it is held, nowhere else.
        let mut changed = whole;
        for byte in &mut changed[range.clone()] {
            *byte ^= 0xFF;
        }
        for (member, part) in parts.iter_mut().enumerate() {
            let runs: Vec<_> = map.held(member, range.clone()).collect();
            for pair in runs.windows(2) {
                let [a, b] = pair else { continue };
                prop_assert!(a.at + a.bytes <= b.at, "out of order");
                prop_assert!(a.at + a.bytes < b.at || a.logical + a.bytes != b.logical, "not joined");
            }
            for run in runs {
                part[run.at..run.at + run.bytes]
                    .copy_from_slice(&changed[run.logical..run.logical + run.bytes]);
            }
            prop_assert_eq!(&*part, &case.part(member, &changed));
        }
    }
}

#[test]
fn a_part_nobody_keeps_cannot_be_read() {
    let desc = TensorDesc::new(DType::F32, [4, 8]);
    let split = Sharding::Split(Split::by_sizes(1, &[4, 4]));
    let map = RangeMap::new(&desc, &split, &[true, false]).unwrap();
    assert!(map.is_held(&(0..16)) && !map.is_held(&(0..17)) && map.is_held(&(32..48)));
    let nobody = RangeMap::replicated(8, &[false, false]);
    assert!(!nobody.is_held(&(0..1)) && nobody.is_held(&(3..3)));
    let second = RangeMap::replicated(8, &[false, true]);
    assert_eq!(
        second
            .answered(1, 2..5)
            .map(|r| (r.at, r.bytes))
            .collect::<Vec<_>>(),
        [(2, 3)]
    );
}

#[test]
fn cuts_that_are_not_of_the_tensor_are_refused() {
    let q = TensorDesc::new(DType::Q8_0, [2, 64]);
    let of = |desc: &TensorDesc, axis, sizes: &[usize]| {
        let split = Sharding::Split(Split::by_sizes(axis, sizes));
        RangeMap::new(desc, &split, &[true, true])
    };
    assert!(of(&q, 1, &[32, 32]).is_ok());
    let dtype = DType::Q8_0;
    assert_eq!(
        of(&q, 1, &[16, 48]),
        Err(ShardError::Block { dtype, at: 16 })
    );
    let (axis, covered, size) = (1, 96, 64);
    assert_eq!(
        of(&q, 1, &[32, 64]),
        Err(ShardError::Size {
            axis,
            covered,
            size
        })
    );
    assert_eq!(
        of(&q, 2, &[1, 1]),
        Err(ShardError::Axis { axis: 2, rank: 2 })
    );
    let (expected, found) = (2, 3);
    assert_eq!(
        of(&q, 0, &[1, 1, 0]),
        Err(ShardError::Members { expected, found })
    );
    assert_eq!(
        RangeMap::new(&q, &Sharding::Partial, &[true]),
        Err(ShardError::Partial)
    );
    // Rows of blocks may be cut between any two.
    assert!(of(&q, 0, &[1, 1]).is_ok());
    let empty = TensorDesc::new(DType::F32, [0, 3]);
    assert_eq!(of(&empty, 1, &[1, 2]).unwrap().held(0, 0..9).count(), 0);
}

/// Every element of a view, one by one.
fn elements(view: &TensorDesc) -> Vec<usize> {
    let sizes = view.shape.sizes();
    let mut at = vec![view.layout.offset()];
    for (size, stride) in sizes.iter().zip(view.layout.strides()) {
        at = at
            .iter()
            .flat_map(|a| (0..*size).map(move |i| a + i * stride))
            .collect();
    }
    at
}

#[test]
fn views_walk_their_elements_in_order() {
    let views = crate::transfers::views(DType::F16, [6, 4, 32]);
    assert!(views.iter().any(|v| !v.is_contiguous()));
    for view in views {
        let ranges = ViewRanges::new(&view).unwrap();
        let walked: Vec<usize> = ranges.flat_map(|r| r.step_by(2).map(|b| b / 2)).collect();
        assert_eq!(walked, elements(&view), "{view}");
    }
    // Blocks go over whole; rows side by side in one range.
    let views = crate::transfers::views(DType::Q8_0, [6, 4, 64]);
    for view in views {
        let ranges = ViewRanges::new(&view).unwrap();
        let bytes: usize = ranges.map(|r| r.len()).sum();
        assert_eq!(Some(bytes), view.bytes(), "{view}");
    }
    let whole = TensorDesc::new(DType::F32, [6, 4, 32]);
    let mut ranges = ViewRanges::new(&whole).unwrap();
    assert_eq!((ranges.next(), ranges.next()), (Some(0..3072), None));
    assert_eq!(
        ViewRanges::new(&TensorDesc::new(DType::F32, [2, 0]))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn neighbours_in_the_tensor_may_lie_apart_in_a_part() {
    // Member 1 holds 0..1, what member 0 answers for, and 1..2 behind it.
    let desc = TensorDesc::new(DType::F32, [4]);
    let parts = vec![
        Part::from_elem(2..4, 1),
        Part::from_iter([0..1, 2..3, 1..2]),
    ];
    let split = Sharding::Split(Split::new(0, 4, parts).unwrap());
    let map = RangeMap::new(&desc, &split, &[true, true]).unwrap();
    let answered: Vec<_> = map
        .answered(1, 0..16)
        .map(|r| (r.logical, r.at, r.bytes))
        .collect();
    assert_eq!(answered, [(0, 0, 4), (4, 8, 4)]);
}
