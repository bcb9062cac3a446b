//! Rules of products, dense and by expert.

use ggrs_core::ops::{
    Gating, GluKind, MatMul, MatMulGlu, MatMulId, MatMulIdGlu, RouteExperts, Window,
};
use ggrs_core::{DType, Real, TensorDesc};

use crate::case::{case, f32s, ids};

#[test]
fn products_are_cut_by_output_or_summed() {
    let product = case(MatMul, [f32s([6, 8]), f32s([5, 8])]);
    product
        .gives(
            &["0: 0-1 | - | 1-6", "R"],
            &["0: 0-1 | - | 1-6", "R"],
            &["1: 0-1 | - | 1-6"],
        )
        .gives(
            &["0: 0-1 | 1-6", "1: 0-4 | 4-8"],
            &["0: 0-1 | 1-6", "R"],
            &["1: 0-1 | 1-6"],
        )
        .gives(
            &["1: 0-2 | 2-8", "R"],
            &["1: 0-2 | 2-8", "1: 0-2 | 2-8"],
            &["P"],
        )
        .gives(
            &["1: 0-2 | 2-8", "1: 0-4 | 4-8"],
            &["1: 0-2 | 2-8", "1: 0-2 | 2-8"],
            &["P"],
        )
        .gives(
            &["R", "1: 0-4 | 4-8"],
            &["1: 0-4 | 4-8", "1: 0-4 | 4-8"],
            &["P"],
        )
        .keeps(&["R", "0: 0-2 | 2-5"], &["0: 0-2 | 2-5"])
        .whole(&["R", "P"])
        // An inner element held twice would be counted twice.
        .whole(&["1: 0-5 | 4-8", "R"])
        .whole(&["R", "1: 0-5 | 4-8"]);
    // Whole weights in blocks are cut between blocks only.
    let blocks = TensorDesc::new(DType::Q8_0, [6, 64]);
    case(MatMul, [blocks, f32s([5, 64])])
        .gives(
            &["R", "1: 0-32 | 32-64"],
            &["1: 0-32 | 32-64", "1: 0-32 | 32-64"],
            &["P"],
        )
        .whole(&["R", "1: 0-16 | 16-64"]);
    // Two heads of x read one of the weights.
    case(MatMul, [f32s([3, 6, 8]), f32s([2, 6, 5, 8])])
        .gives(
            &["0: 0-1 | 1-3", "R"],
            &["0: 0-1 | 1-3", "1: 0-2 | 2-6"],
            &["1: 0-2 | 2-6"],
        )
        .gives(
            &["R", "1: 0-2 | 2-6"],
            &["0: 0-1 | 1-3", "1: 0-2 | 2-6"],
            &["1: 0-2 | 2-6"],
        )
        .keeps(&["R", "0: 0-1 | 1-2"], &["0: 0-1 | 1-2"])
        .gives(
            &["1: 0-4 | 4-6", "R"],
            &["1: 0-4 | 4-6", "R"],
            &["3: 0-4 | 4-6"],
        )
        .whole(&["R", "1: 0-1 | 1-6"]);
    let glu = MatMulGlu {
        kind: GluKind::Geglu,
    };
    case(glu, [f32s([6, 8]), f32s([6, 8]), f32s([5, 8])])
        .gives(
            &["R", "0: 0-1 | 1-6", "R"],
            &["0: 0-1 | 1-6", "0: 0-1 | 1-6", "R"],
            &["1: 0-1 | 1-6"],
        )
        .keeps(&["R", "R", "0: 0-1 | 1-5"], &["0: 0-1 | 1-5"])
        .whole(&["1: 0-4 | 4-8", "1: 0-4 | 4-8", "1: 0-4 | 4-8"])
        .whole(&["R", "R", "1: 0-4 | 4-8"]);
}

#[test]
fn experts_are_cut_by_width_or_by_expert() {
    let [bank, x, rows, routes] = [
        f32s([4, 6, 8]),
        f32s([5, 1, 8]),
        f32s([5, 2, 8]),
        ids([5, 2]),
    ];
    let experts = "0: 0-1 | - | 1-4";
    let product = case(MatMulId::default(), [bank.clone(), rows, routes.clone()]);
    product
        .keeps(&["1: 0-2 | 2-6", "R", "R"], &["2: 0-2 | 2-6"])
        .gives(
            &["2: 0-4 | 4-8", "R", "R"],
            &["2: 0-4 | 4-8", "2: 0-4 | 4-8", "R"],
            &["P"],
        )
        .gives(
            &["R", "2: 0-4 | 4-8", "R"],
            &["2: 0-4 | 4-8", "2: 0-4 | 4-8", "R"],
            &["P"],
        )
        .keeps(&[experts, "R", "R"], &["P"])
        .keeps(&[experts, "P", "R"], &["P"])
        .gives(
            &[experts, "2: 0-4 | 4-8", "R"],
            &[experts, "R", "R"],
            &["P"],
        )
        .gives(
            &["R", "0: 0-1 | 1-5", "R"],
            &["R", "0: 0-1 | 1-5", "0: 0-1 | 1-5"],
            &["0: 0-1 | 1-5"],
        )
        .gives(
            &["R", "R", "1: 0-1 | 1-2"],
            &["R", "1: 0-1 | 1-2", "1: 0-1 | 1-2"],
            &["1: 0-1 | 1-2"],
        )
        .whole(&["R", "P", "R"])
        .whole(&["0: 0-3 | 2-4", "R", "R"])
        .whole(&["2: 0-5 | 4-8", "R", "R"]);
    let window = Some(Window { first: 1, total: 4 });
    assert_eq!(
        product.on(2, &[experts, "P", "R"]),
        Some(MatMulId { window }.into())
    );
    assert_eq!(product.on(1, &["1: 0-2 | 2-6", "R", "R"]), None);
    // One row of x for all of a token's experts.
    case(
        MatMulId::default(),
        [bank.clone(), x.clone(), routes.clone()],
    )
    .gives(
        &["R", "R", "1: 0-1 | 1-2"],
        &["R", "R", "1: 0-1 | 1-2"],
        &["1: 0-1 | 1-2"],
    )
    .whole(&["R", "1: 0-1 | -", "R"]);
    let kind = GluKind::Swiglu;
    let glu = MatMulIdGlu { kind, window: None };
    let glu = case(glu, [bank.clone(), bank, x, routes]);
    glu.gives(
        &["R", "1: 0-2 | 2-6", "R", "R"],
        &["1: 0-2 | 2-6", "1: 0-2 | 2-6", "R", "R"],
        &["2: 0-2 | 2-6"],
    )
    .keeps(&[experts, experts, "R", "R"], &["P"])
    .whole(&["2: 0-4 | 4-8", "2: 0-4 | 4-8", "R", "R"])
    .whole(&["R", "R", "2: 0-4 | 4-8", "R"]);
    let own = glu.on(2, &[experts, experts, "R", "R"]);
    assert_eq!(own, Some(MatMulIdGlu { kind, window }.into()));
    let route = RouteExperts {
        n_used: 2,
        gating: Gating::Softmax,
        normalise: true,
        scale: Real(1.0),
    };
    case(route, [f32s([5, 4])])
        .keeps(&["0: 0-1 | 1-5"], &["0: 0-1 | 1-5", "0: 0-1 | 1-5"])
        .whole(&["1: 0-2 | 2-4"]);
}
