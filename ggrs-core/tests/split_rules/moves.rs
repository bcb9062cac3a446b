//! Rules of views, copies, tables, writes and exchanges.

use ggrs_core::ops::{
    Broadcast, CacheWrite, Cast, Concat, GetRows, Op, Permute, Receive, Reshape, Sample, Send,
    SetRows, Slice, Store, Window,
};
use ggrs_core::{DType, Shape, TensorDesc};
use smallvec::smallvec;

use crate::case::{Case, case, f32s, ids};

fn reshape<const A: usize, const B: usize>(from: [usize; A], to: [usize; B]) -> Case {
    let shape = Shape::from(to);
    case(Reshape { shape }, [f32s(from)])
}

#[test]
fn reshapes_pass_cuts_of_an_axis_that_begins_a_group() {
    // [T, H * D] <-> [T, H, D]
    reshape([5, 12], [5, 3, 4])
        .keeps(&["1: 0-4 | - | 4-12"], &["1: 0-1 | - | 1-3"])
        .keeps(&["0: 0-2 | 2-5"], &["0: 0-2 | 2-5"])
        .keeps(&["P"], &["P"])
        .whole(&["1: 0-6 | 6-12"]);
    reshape([5, 3, 4], [5, 12])
        .keeps(&["1: 2-3 | 0-1 | 1-2"], &["1: 8-12 | 0-4 | 4-8"])
        .whole(&["2: 0-2 | 2-4"]);
    // Axes of size 1 come and go.
    reshape([5, 3, 4], [5, 1, 3, 1, 4]).keeps(&["1: 0-1 | 1-3"], &["2: 0-1 | 1-3"]);
    reshape([5, 1, 3, 4], [5, 3, 4]).keeps(&["2: 0-1 | 1-3"], &["1: 0-1 | 1-3"]);
    // Interleaved and shared parts keep their order.
    reshape([5, 2, 4, 2], [5, 8, 2]).keeps(&["1: 0-1 | 0-1 | 1-2"], &["1: 0-4 | 0-4 | 4-8"]);
    reshape([6, 4], [4, 6]).whole(&["0: 0-3 | 3-6"]);
    let own = reshape([5, 12], [5, 3, 4]).on(2, &["1: 0-4 | - | 4-12"]);
    let shape = Shape::from([5, 2, 4]);
    assert_eq!(own, Some(Reshape { shape }.into()));
}

#[test]
fn views_move_cuts() {
    let axes = smallvec![2, 0, 1];
    case(Permute { axes }, [f32s([2, 3, 4])])
        .keeps(&["0: 0-1 | 1-2"], &["1: 0-1 | 1-2"])
        .keeps(&["2: 0-1 | 1-4"], &["0: 0-1 | 1-4"])
        .keeps(&["P"], &["P"]);
    let shape = Shape::from([2, 3, 4]);
    let broadcast = case(Broadcast { shape }, [f32s([1, 4])]);
    broadcast
        .keeps(&["1: 0-1 | 1-4"], &["2: 0-1 | 1-4"])
        .keeps(&["P"], &["P"])
        .whole(&["0: 0-1 | -"]);
    let shape = Shape::from([2, 3, 3]);
    assert_eq!(
        broadcast.on(1, &["1: 0-1 | 1-4"]),
        Some(Broadcast { shape }.into())
    );
}

#[test]
fn slices_take_a_run_of_every_part() {
    let slice = |start, len| Slice {
        axis: 1,
        start,
        len,
    };
    let x = [f32s([2, 8])];
    case(slice(2, 3), x.clone())
        .keeps(&["0: 0-1 | 1-2"], &["0: 0-1 | 1-2"])
        .keeps(&["P"], &["P"])
        // The slice would leave the second member idle.
        .whole(&["1: 0-5 | 5-8"])
        .keeps(&["1: 0-3 | 3-8"], &["1: 0-1 | 1-3"]);
    // Two stretches of four, of which every member has its half of either.
    let stretches = "1: 0-1,4-5 | - | 1-4,5-8";
    let second = case(slice(4, 4), x.clone());
    second.keeps(&[stretches], &["1: 0-1 | - | 1-4"]);
    assert_eq!(second.on(0, &[stretches]), Some(slice(1, 1).into()));
    assert_eq!(second.on(2, &[stretches]), Some(slice(3, 3).into()));
    assert_eq!(second.on(2, &["0: 0-1 | - | 1-2"]), None);
    // What lies between them would be lost.
    case(slice(4, 4), x).whole(&["1: 4-5,0-1,5-6 | 1-4,6-8"]);
}

#[test]
fn copies_and_joins() {
    let f16 = Cast { dtype: DType::F16 };
    let q8 = Cast { dtype: DType::Q8_0 };
    let f32 = Cast { dtype: DType::F32 };
    let x = [f32s([2, 128])];
    case(f16, x.clone())
        .keeps(&["1: 0-5 | 5-128"], &["1: 0-5 | 5-128"])
        .whole(&["P"]);
    case(q8, x.clone())
        .keeps(&["1: 0-32 | 32-128"], &["1: 0-32 | 32-128"])
        .keeps(&["0: 0-1 | 1-2"], &["0: 0-1 | 1-2"])
        .whole(&["1: 0-16 | 16-128"]);
    case(f32, x).keeps(&["P"], &["P"]);
    let join = case(Concat { axis: 1 }, [f32s([4, 2]), f32s([4, 6])]);
    let rows = "0: 0-3 | 3-4";
    join.gives(&["R", rows], &[rows, rows], &[rows])
        .keeps(&["P", "P"], &["P"])
        .keeps(&["1: 0-1 | 1-2", "1: 0-3 | 3-6"], &["1: 0-1,2-5 | 1-2,5-8"])
        .whole(&["1: 0-2 | -", "1: 0-3 | 3-6"])
        .whole(&["1: 0-1 | 1-2", "R"])
        .whole(&["P", "R"]);
}

#[test]
fn tables_are_cut_by_width_or_into_windows() {
    let lookup = case(GetRows::default(), [f32s([10, 8]), ids([3])]);
    let vocabulary = "0: 0-4 | - | 4-10";
    lookup
        .keeps(&["1: 0-4 | 4-8", "R"], &["1: 0-4 | 4-8"])
        .keeps(&[vocabulary, "R"], &["P"])
        .gives(
            &[vocabulary, "0: 0-1 | - | 1-3"],
            &[vocabulary, "R"],
            &["P"],
        )
        .keeps(&["P", "R"], &["P"])
        .keeps(&["R", "0: 0-1 | 1-3"], &["0: 0-1 | 1-3"])
        // Rows held twice would be counted twice.
        .whole(&["0: 0-6 | 4-10", "R"]);
    let window = |first, total| {
        let window = Some(Window { first, total });
        Some(Op::from(GetRows { window }))
    };
    assert_eq!(lookup.on(0, &[vocabulary, "R"]), window(0, 10));
    assert_eq!(lookup.on(2, &[vocabulary, "R"]), window(4, 10));
    assert_eq!(lookup.on(0, &["1: 0-4 | 4-8", "R"]), None);
    let windowed = GetRows {
        window: Some(Window {
            first: 20,
            total: 40,
        }),
    };
    let windowed = case(windowed, [f32s([10, 8]), ids([3])]);
    assert_eq!(windowed.on(2, &[vocabulary, "R"]), window(24, 40));
    // Integers are not summed.
    case(GetRows::default(), [ids([10, 8]), ids([3])]).whole(&[vocabulary, "R"]);
    let batch = "0: 0-1 | 1-2";
    case(GetRows::default(), [f32s([2, 10, 8]), ids([2, 3])])
        .gives(&[batch, "R"], &[batch, batch], &[batch])
        .gives(&["R", batch], &[batch, batch], &[batch])
        .whole(&["1: 0-4 | 4-10", "R"]);
    case(GetRows::default(), [f32s([2, 10, 8]), ids([1, 3])])
        .gives(&[batch, "R"], &[batch, "R"], &[batch])
        .whole(&["R", "0: 0-1 | -"]);
}

#[test]
fn writes_keep_the_written_tensor_as_it_lies() {
    let set = case(SetRows, [f32s([2, 10, 8]), f32s([2, 3, 8]), ids([2, 3])]);
    let (width, batch) = ("2: 0-2 | 2-8", "0: 0-1 | 1-2");
    set.gives(&[width, "P", "R"], &[width, width, "R"], &[width])
        .gives(&[batch, "R", "R"], &[batch, batch, batch], &[batch])
        .whole(&["1: 0-4 | 4-10", "R", "R"])
        .whole(&["R", width, "R"]);
    case(SetRows, [f32s([2, 10, 8]), f32s([2, 3, 8]), ids([1, 3])]).gives(
        &[batch, "R", "R"],
        &[batch, batch, "R"],
        &[batch],
    );
    case(Store, [f32s([2, 8]), f32s([2, 8])])
        .gives(
            &["1: 0-2 | 2-8", "P"],
            &["1: 0-2 | 2-8", "1: 0-2 | 2-8"],
            &["1: 0-2 | 2-8"],
        )
        .whole(&["R", "1: 0-2 | 2-8"]);
    let write = case(
        CacheWrite { block: 4 },
        [
            f32s([16, 2, 8]),
            f32s([5, 2, 8]),
            ids([5]),
            ids([5]),
            ids([2, 2]),
        ],
    );
    let shared = "1: 0-1 | 0-1 | 1-2";
    write
        .gives(
            &[shared, "R", "R", "R", "R"],
            &[shared, shared, "R", "R", "R"],
            &[shared],
        )
        .whole(&["R", shared, "R", "R", "R"])
        .whole(&["0: 0-8 | 8-16", "R", "R", "R", "R"]);
}

#[test]
fn tokens_are_chosen_from_whole_rows() {
    let seeds = TensorDesc::new(DType::I64, [2]);
    let sample = case(Sample, [ids([20, 2]), f32s([2, 9]), f32s([2, 8]), seeds]);
    sample
        .whole(&["R", "R", "R", "R"])
        .whole(&["R", "1: 0-4 | 4-9", "R", "R"])
        .whole(&["R", "0: 0-1 | 1-2", "R", "R"])
        .whole(&["R", "P", "R", "R"]);
}

#[test]
fn exchanges_take_cuts_but_not_sums() {
    let send = case(Send { tag: 1 }, [f32s([5, 4])]);
    send.keeps(&["1: 0-1 | 1-4"], &[]).whole(&["P"]);
    let desc = f32s([5, 4]);
    case(Receive { tag: 1, desc }, []).whole(&[]);
}
