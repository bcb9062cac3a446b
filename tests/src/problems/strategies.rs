//! Random parts of problems: sizes, shapes, dtypes, views. Small, so that many of them run.

use ggrs_core::DType;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;

use crate::problem::{Operand, View, operand};

/// The scalar floating-point types.
pub(super) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Formats that hold weights: scalars and blocks.
pub(super) const WEIGHTS: [DType; 16] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::MXFP4,
];

/// Formats that can be written.
pub(super) const WRITABLE: [DType; 9] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::IQ4_NL,
];

/// Formats of a KV cache.
pub(super) const KV: [DType; 5] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
];

/// One of a few values.
pub(super) fn one_of<T: Clone + std::fmt::Debug + 'static>(
    values: impl Into<Vec<T>>,
) -> impl Strategy<Value = T> {
    select(values.into())
}

/// A size: mostly small, now and then 0 or odd and wider than a vector.
pub(super) fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 6 => 1usize..=4, 3 => one_of([5usize, 7, 8, 16, 17, 33])]
}

/// A size of at least 1.
pub(super) fn positive() -> impl Strategy<Value = usize> {
    size().prop_map(|n| n.max(1))
}

/// A shape of few elements with this many axes.
pub(super) fn shape(ranks: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    vec(size(), ranks).prop_filter("few elements", |shape| {
        shape.iter().product::<usize>() <= 3000
    })
}

/// An operand with one of these dtypes and views.
pub(super) fn any_operand(
    ranks: std::ops::RangeInclusive<usize>,
    dtypes: impl Into<Vec<DType>>,
    views: impl Into<Vec<View>>,
) -> impl Strategy<Value = Operand> {
    (one_of(dtypes), shape(ranks), one_of(views))
        .prop_map(|(dtype, shape, view)| operand(dtype, shape).via(view))
}
