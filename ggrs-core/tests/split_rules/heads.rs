//! Rules of what is cut by head: rotation, attention, recurrent mixers.

use ggrs_core::Real;
use ggrs_core::ops::{Attention, GatedDeltaNet, Rope, RopeMode, SsmConv, Visibility, Yarn};

use crate::case::{Case, case, f32s, ids};

#[test]
fn heads_are_rotated_apart() {
    let rope = Rope {
        mode: RopeMode::Neox,
        n_rot: 4,
        base: Real(1e4),
        yarn: Yarn::default(),
        factors: true,
    };
    let (heads, tokens) = ("1: 0-1 | 1-3", "0: 0-2 | 2-5");
    case(rope, [f32s([5, 3, 8]), ids([5]), f32s([2])])
        .keeps(&[heads, "R", "R"], &[heads])
        .gives(&[tokens, "R", "R"], &[tokens, tokens, "R"], &[tokens])
        .whole(&["2: 0-4 | 4-8", "R", "R"]);
}

fn dense_attention(heads: usize, key_heads: usize) -> Case {
    let op = Attention {
        scale: Real(1.0),
        softcap: None,
        visibility: Visibility::Mask,
        sinks: true,
    };
    let [q, kv] = [heads, key_heads].map(|h| f32s([1, 5, h, 4]));
    case(
        op,
        [q, kv.clone(), kv, f32s([1, heads, 5, 5]), f32s([heads])],
    )
}

fn paged_attention(heads: usize, key_heads: usize) -> Case {
    let op = Attention {
        scale: Real(1.0),
        softcap: None,
        visibility: Visibility::Paged {
            block: 4,
            window: None,
        },
        sinks: false,
    };
    let [q, kv] = [f32s([5, heads, 4]), f32s([16, key_heads, 4])];
    case(op, [q, kv.clone(), kv, ids([5]), ids([5]), ids([2, 2])])
}

/// Queries, keys and values so, and the rest whole.
fn qkv<'a>(q: &'a str, kv: &'a str) -> [&'a str; 6] {
    [q, kv, kv, "R", "R", "R"]
}

#[test]
fn query_heads_meet_their_key_heads() {
    // Groups of two; a member with one query head of a shared key head.
    let paged = paged_attention(6, 3);
    paged
        .keeps(&qkv("1: 0-2 | 2-6", "1: 0-1 | 1-3"), &["1: 0-2 | 2-6"])
        .keeps(
            &qkv("1: 0-1 | 1-2 | 2-6", "1: 0-1 | 0-1 | 1-3"),
            &["1: 0-1 | 1-2 | 2-6"],
        )
        .keeps(&qkv("1: 0-6 | -", "1: 0-3 | -"), &["1: 0-6 | -"])
        // Whole key heads give whole groups, and the other way round.
        .gives(
            &qkv("R", "1: 0-1 | 1-3"),
            &qkv("1: 0-2 | 2-6", "1: 0-1 | 1-3"),
            &["1: 0-2 | 2-6"],
        )
        .gives(
            &qkv("1: 0-3 | 3-6", "1: 0-1 | 1-3"),
            &qkv("1: 0-2 | 2-6", "1: 0-1 | 1-3"),
            &["1: 0-2 | 2-6"],
        )
        .gives(
            &qkv("1: 0-2 | 2-6", "R"),
            &qkv("1: 0-2 | 2-6", "1: 0-1 | 1-3"),
            &["1: 0-2 | 2-6"],
        )
        .gives(
            &qkv("1: 0-1 | 1-2 | 2-6", "R"),
            &qkv("1: 0-1 | 1-2 | 2-6", "1: 0-1 | 0-1 | 1-3"),
            &["1: 0-1 | 1-2 | 2-6"],
        )
        // Three query heads over one and a half key heads.
        .whole(&qkv("1: 0-3 | 3-6", "R"))
        .whole(&qkv("0: 0-2 | 2-5", "R"));
    // Interleaved groups.
    let (q, k) = ("1: 0-2,4-6 | 2-4,6-8", "1: 0-1,2-3 | 1-2,3-4");
    paged_attention(8, 4)
        .keeps(&qkv(q, k), &[q])
        .gives(&qkv(q, "R"), &qkv(q, k), &[q]);
    // One key head for all.
    paged_attention(4, 1).keeps(&qkv("1: 0-1 | 1-4", "R"), &["1: 0-1 | 1-4"]);
    let (q, k, s) = ("2: 0-2 | 2-4", "2: 0-1 | 1-2", "0: 0-2 | 2-4");
    dense_attention(4, 2)
        .gives(
            &[q, "R", "R", "R", "R"],
            &[q, k, k, "1: 0-2 | 2-4", s],
            &[q],
        )
        .whole(&["R", "R", "R", "1: 0-2 | 2-4", s]);
}

#[test]
fn recurrent_mixers_are_cut_by_channel_and_head() {
    let conv = case(SsmConv, [f32s([2, 6, 8]), f32s([6, 4])]);
    let channels = "1: 0-1,3-4 | 1-3,4-6";
    let taps = "0: 0-1,3-4 | 1-3,4-6";
    conv.gives(&["R", taps], &[channels, taps], &["2: 0-1,3-4 | 1-3,4-6"])
        .keeps(&["0: 0-1 | 1-2", "R"], &["0: 0-1 | 1-2"])
        .whole(&["2: 0-4 | 4-8", "R"]);
    // Value head h reads key head h % 2.
    let (q, v) = (f32s([1, 3, 2, 4]), f32s([1, 3, 4, 4]));
    let (g, beta, state) = (f32s([1, 3, 4, 1]), f32s([1, 3, 4]), f32s([1, 4, 4, 4]));
    let delta = case(
        GatedDeltaNet { snapshots: 2 },
        [q.clone(), q, v, g, beta, state],
    );
    let (keys, values, of_state) = (
        "2: 0-1 | 1-2",
        "2: 0-1,2-3 | 1-2,3-4",
        "1: 0-1,2-3 | 1-2,3-4",
    );
    let cut = [keys, keys, values, values, values, of_state];
    delta
        .keeps(&cut, &[values, values])
        .gives(&["R", "R", values, "R", "R", "R"], &cut, &[values, values])
        .gives(&[keys, "R", "R", "R", "R", "R"], &cut, &[values, values])
        .gives(
            &["R", "R", "R", "R", "R", of_state],
            &cut,
            &[values, values],
        );
    // Halves in order need both key heads each.
    let (both, halves) = ("2: 0-2 | 0-2", "2: 0-2 | 2-4");
    let of_state = "1: 0-2 | 2-4";
    let cut = [both, both, halves, halves, halves, of_state];
    delta.gives(
        &[keys, keys, halves, "R", "R", "R"],
        &cut,
        &[halves, halves],
    );
    // Three value heads cannot take turns at two key heads.
    delta.whole(&["R", "R", "2: 0-3 | 3-4", "R", "R", "R"]);
}
