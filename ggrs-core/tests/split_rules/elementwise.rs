//! Rules of ops that treat elements, rows or halves of rows by themselves.

use ggrs_core::ops::{
    AddRmsNorm, Argmax, Argsort, Binary, BinaryKind, Clamp, Contiguous, CumSum, Glu, GluInput,
    GluKind, L2Norm, LayerNorm, Op, Reduce, ReduceKind, RmsNorm, Scale, Softmax, SortOrder, TopK,
    Unary, UnaryKind,
};
use ggrs_core::{DType, Real, TensorDesc};

use crate::case::{case, f32s};

const fn binary(kind: BinaryKind) -> Binary {
    Binary { kind }
}

#[test]
fn elementwise_ops_pass_cuts() {
    let x = [f32s([4, 6])];
    let uneven = "1: 0-1 | - | 1-6";
    for op in [
        Op::from(Unary {
            kind: UnaryKind::Silu,
        }),
        Clamp {
            min: Real(0.0),
            max: Real(1.0),
        }
        .into(),
        Scale {
            scale: Real(2.0),
            bias: Real(1.0),
        }
        .into(),
    ] {
        case(op, x.clone())
            .keeps(&[uneven], &[uneven])
            .whole(&["R"])
            .whole(&["P"]);
    }
    let scale = Scale {
        scale: Real(2.0),
        bias: Real(0.0),
    };
    case(scale, x.clone()).keeps(&["P"], &["P"]);
    let neg = Unary {
        kind: UnaryKind::Neg,
    };
    case(neg, x.clone()).keeps(&["P"], &["P"]);
    case(Contiguous, x.clone())
        .keeps(&["P"], &["P"])
        .keeps(&[uneven], &[uneven]);
    case(CumSum, x).keeps(&["P"], &["P"]).whole(&[uneven]);
}

#[test]
fn broadcast_operands_follow_the_cut() {
    let bias = case(binary(BinaryKind::Add), [f32s([4, 6]), f32s([6])]);
    bias.gives(
        &["1: 0-2 | 2-6", "R"],
        &["1: 0-2 | 2-6", "0: 0-2 | 2-6"],
        &["1: 0-2 | 2-6"],
    )
    .gives(
        &["R", "0: 0-2 | 2-6"],
        &["1: 0-2 | 2-6", "0: 0-2 | 2-6"],
        &["1: 0-2 | 2-6"],
    )
    .gives(
        &["0: 0-2 | 2-4", "R"],
        &["0: 0-2 | 2-4", "R"],
        &["0: 0-2 | 2-4"],
    )
    // Cut differently: the first wins. A sum meets the cut by a scatter.
    .gives(
        &["1: 0-2 | 2-6", "0: 0-3 | 3-6"],
        &["1: 0-2 | 2-6", "0: 0-2 | 2-6"],
        &["1: 0-2 | 2-6"],
    )
    .gives(
        &["P", "0: 0-3 | 3-6"],
        &["1: 0-3 | 3-6", "0: 0-3 | 3-6"],
        &["1: 0-3 | 3-6"],
    )
    .keeps(&["P", "P"], &["P"])
    .whole(&["P", "R"]);
    let gate = case(binary(BinaryKind::Mul), [f32s([4, 6]), f32s([4, 1])]);
    gate.gives(
        &["1: 0-2 | 2-6", "R"],
        &["1: 0-2 | 2-6", "R"],
        &["1: 0-2 | 2-6"],
    )
    .gives(
        &["R", "0: 0-1 | 1-4"],
        &["0: 0-1 | 1-4", "0: 0-1 | 1-4"],
        &["0: 0-1 | 1-4"],
    )
    .whole(&["R", "1: 0-1 | -"])
    .keeps(&["P", "R"], &["P"])
    .keeps(&["R", "P"], &["P"])
    .whole(&["P", "P"]);
    let div = case(binary(BinaryKind::Div), [f32s([4, 6]), f32s([4, 1])]);
    div.keeps(&["P", "R"], &["P"]).whole(&["R", "P"]);
    let half = TensorDesc::new(DType::F16, [4, 6]);
    // Sums are F32: a result that is not is never one.
    case(binary(BinaryKind::Mul), [half, f32s([4, 6])]).whole(&["R", "P"]);
}

#[test]
fn gated_units_need_both_halves() {
    let kind = GluKind::Swiglu;
    let two = Glu {
        kind,
        input: GluInput::Split,
    };
    let even = "1: 0-2 | 2-4";
    case(two, [f32s([3, 4]), f32s([3, 4])])
        .gives(&["R", even], &[even, even], &[even])
        .whole(&["P", "P"]);
    let fused = Glu {
        kind,
        input: GluInput::UpGate,
    };
    case(fused, [f32s([3, 8])])
        .keeps(&["0: 0-1 | 1-3"], &["0: 0-1 | 1-3"])
        .keeps(&["1: 0-1,4-5 | 1-4,5-8"], &["1: 0-1 | 1-4"])
        // One range that holds both halves is as good as two.
        .keeps(&["1: 0-8 | -"], &["1: 0-4 | -"])
        .whole(&["1: 0-4 | 4-8"])
        .whole(&["1: 4-6,0-2 | 2-4,6-8"])
        .whole(&["1: 0-1,4-6 | 1-4,6-8"]);
}

#[test]
fn rows_are_normed_whole() {
    let eps = Real(1e-5);
    let (x, w) = (f32s([2, 3, 8]), f32s([8]));
    let heads = "1: 0-1 | 1-3";
    case(
        RmsNorm {
            eps,
            weighted: true,
        },
        [x.clone(), w.clone()],
    )
    .keeps(&[heads, "R"], &[heads])
    .whole(&["2: 0-4 | 4-8", "0: 0-4 | 4-8"])
    .whole(&["P", "R"]);
    case(
        RmsNorm {
            eps,
            weighted: false,
        },
        [x.clone()],
    )
    .keeps(&[heads], &[heads]);
    case(LayerNorm { eps }, [x.clone()]).keeps(&[heads], &[heads]);
    case(L2Norm { eps }, [x.clone()]).keeps(&[heads], &[heads]);
    case(AddRmsNorm { eps }, [x.clone(), x.clone(), w])
        .gives(&["R", heads, "R"], &[heads, heads, "R"], &[heads, heads])
        .gives(
            &["2: 0-4 | 4-8", heads, "R"],
            &[heads, heads, "R"],
            &[heads, heads],
        )
        .whole(&["P", "P", "R"]);
    let softmax = Softmax {
        scale: Real(1.0),
        mask: true,
        sinks: true,
    };
    case(softmax, [x, f32s([1, 3, 8]), f32s([2])])
        .gives(
            &["0: 0-1 | 1-2", "R", "R"],
            &["0: 0-1 | 1-2", "R", "0: 0-1 | 1-2"],
            &["0: 0-1 | 1-2"],
        )
        .gives(&[heads, "R", "R"], &[heads, heads, "R"], &[heads])
        .whole(&["2: 0-4 | 4-8", "R", "R"]);
}

#[test]
fn sums_of_parts_are_partial() {
    let reduce = |kind| case(Reduce { kind, axis: 1 }, [f32s([5, 4, 3])]);
    reduce(ReduceKind::Sum)
        .keeps(&["1: 0-1 | - | 1-4"], &["P"])
        .keeps(&["0: 0-1 | 1-5"], &["0: 0-1 | 1-5"])
        .keeps(&["P"], &["P"])
        .whole(&["1: 0-3 | 2-4"]);
    reduce(ReduceKind::Mean)
        .keeps(&["P"], &["P"])
        .keeps(&["2: 0-1 | 1-3"], &["2: 0-1 | 1-3"])
        .whole(&["1: 0-1 | 1-4"]);
}

#[test]
fn selections_take_rows_or_plain_parts_of_them() {
    let x = [f32s([2, 8])];
    let (rows, plain) = ("0: 0-1 | 1-2", "1: 0-5 | - | 5-8");
    case(TopK { k: 2 }, x.clone())
        .keeps(&[rows], &[rows, rows])
        .keeps(&[plain], &["R", "R"])
        .whole(&["1: 0-2,4-6 | 2-4,6-8"])
        .whole(&["P"]);
    case(Argmax, x.clone())
        .keeps(&[rows], &[rows])
        .keeps(&[plain], &["R"])
        .whole(&["1: 0-5 | 4-8"]);
    let order = SortOrder::Descending;
    case(Argsort { order }, x)
        .keeps(&[rows], &[rows])
        .whole(&[plain]);
}
