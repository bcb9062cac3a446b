//! Split plans: groups are cut once, in whole atoms, for all their tensors.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::Range;

use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Role, RoleKind, Sharding, Split, Stretch};
use ggrs_meta::{ExpertSplit, MetaOptions, SplitPlan};
use proptest::prelude::*;

struct Leaf {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    layer: Option<usize>,
    links: Vec<Link>,
}

fn leaf(name: &str, dtype: DType, shape: &[usize], links: &[Link]) -> Leaf {
    Leaf {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        layer: None,
        links: links.to_vec(),
    }
}

fn graph(leaves: &[Leaf]) -> Graph {
    let mut g = GraphBuilder::new();
    for l in leaves {
        let value = g.weight(&l.name, l.dtype, l.shape.as_slice()).unwrap();
        let role = Role {
            kind: RoleKind::Other,
            layer: l.layer,
            links: l.links.iter().cloned().collect(),
        };
        g.describe(value, role).unwrap();
    }
    let x = g.input("x", DType::F32, [1]).unwrap();
    let y = g.scale(x, 2.0, 0.0).unwrap();
    g.output("y", y).unwrap();
    g.seal().unwrap()
}

fn ratios(ratios: &[f64]) -> MetaOptions {
    MetaOptions {
        ratios: ratios.to_vec(),
        ..MetaOptions::default()
    }
}

fn plan(leaves: &[Leaf], members: usize, options: &MetaOptions) -> SplitPlan {
    SplitPlan::new(&graph(leaves), members, options).unwrap()
}

fn refusal(leaves: &[Leaf], members: usize, options: &MetaOptions) -> String {
    SplitPlan::new(&graph(leaves), members, options)
        .unwrap_err()
        .to_string()
}

fn split(plan: &SplitPlan, name: &str) -> Split {
    match plan.sharding(name) {
        Sharding::Split(split) => split,
        other => panic!("{name} is {other}"),
    }
}

fn lens(plan: &SplitPlan, name: &str) -> Vec<usize> {
    let split = split(plan, name);
    (0..split.members()).map(|m| split.len(m)).collect()
}

/// Attention of `heads` query heads of width 64 over `kv` key heads.
fn attention(heads: usize, kv: usize, dtype: DType) -> Vec<Leaf> {
    let link = |axis, unit| Link::new("blk.0.heads", Cut::Heads, heads, axis, unit);
    let shared = |axis, unit| link(axis, unit).shared_by(heads / kv);
    vec![
        leaf("q", dtype, &[heads * 64, 256], &[link(0, 64)]),
        leaf("k", dtype, &[kv * 64, 256], &[shared(0, 64)]),
        leaf("cache", DType::F16, &[16, kv, 64], &[shared(1, 1)]),
        leaf("o", dtype, &[256, heads * 64], &[link(1, 64)]),
    ]
}

/// A feed-forward block of this width, down in one format, gate in another.
fn width(ff: usize, gate: DType, down: DType) -> Vec<Leaf> {
    let link = |axis| Link::new("blk.0.width", Cut::Width, ff, axis, 1);
    vec![
        leaf("gate", gate, &[ff, 256], &[link(0)]),
        leaf("down", down, &[256, ff], &[link(1)]),
    ]
}

#[test]
fn the_worked_example_of_the_docs() {
    // 8 query heads, 2 key heads, 3 members.
    let plan = plan(&attention(8, 2, DType::F32), 3, &MetaOptions::default());
    assert_eq!(
        plan.explain(),
        "3 members, 1 groups\n\
         blk.0.heads: 8 positions, 4 per key head: 0..4 | 4..6 | 6..8\n  \
         q F32 axis 0\n  k F32 axis 0\n  cache F16 axis 1\n  o F32 axis 1\n"
    );
    assert_eq!(
        split(&plan, "q").to_string(),
        "axis 0 as 0..256 | 256..384 | 384..512"
    );
    assert_eq!(
        split(&plan, "k").to_string(),
        "axis 0 as 0..64 | 64..128 | 64..128"
    );
    assert_eq!(
        split(&plan, "cache").to_string(),
        "axis 1 as 0..1 | 1..2 | 1..2"
    );
}

#[test]
fn scenario_22817_23843_mixed_formats_of_one_group_round_alike() {
    // Q6_K keeps 256 units together, Q8_0 32, F16 none: one atom for all, three members, uneven.
    let link = |axis| Link::new("w", Cut::Width, 2816, axis, 1);
    let leaves = [
        leaf("gate", DType::Q4_K, &[2816, 256], &[link(0)]),
        leaf("up", DType::F16, &[2816, 256], &[link(0)]),
        leaf("down", DType::Q6_K, &[8, 2816], &[link(1)]),
        leaf("other", DType::Q8_0, &[8, 2816], &[link(1)]),
    ];
    let plan = plan(&leaves, 3, &ratios(&[30.0, 25.0, 20.0]));
    assert_eq!(plan.groups()[0].atom, 256);
    for name in ["up", "down", "other"] {
        assert_eq!(lens(&plan, name), lens(&plan, "gate"), "{name}");
        assert!(
            lens(&plan, name).iter().all(|n| n.is_multiple_of(256)),
            "{name}"
        );
    }
    assert_eq!(lens(&plan, "gate").iter().sum::<usize>(), 2816);
}

#[test]
fn scenario_24486_nine_and_ten_members() {
    for members in [9, 10] {
        let plan = plan(
            &attention(64, 8, DType::Q4_K),
            members,
            &MetaOptions::default(),
        );
        let q = lens(&plan, "q");
        assert_eq!(q.iter().sum::<usize>(), 64 * 64);
        assert!(q.iter().all(|n| *n > 0), "{q:?}");
    }
}

#[test]
fn scenario_21765_21808_more_members_than_key_heads() {
    for members in 3..=8 {
        let plan = plan(
            &attention(16, 2, DType::F32),
            members,
            &MetaOptions::default(),
        );
        assert!(
            lens(&plan, "q").iter().all(|n| *n > 0),
            "{}",
            plan.explain()
        );
        assert_eq!(lens(&plan, "cache"), vec![1; members]);
    }
}

#[test]
fn scenario_24015_one_key_head() {
    let plan = plan(&attention(4, 1, DType::F32), 6, &MetaOptions::default());
    let (q, cache) = (lens(&plan, "q"), lens(&plan, "cache"));
    assert_eq!(q.iter().sum::<usize>(), 4 * 64);
    for (q, cache) in q.iter().zip(cache) {
        assert_eq!(cache, usize::from(*q > 0));
    }
}

#[test]
fn scenario_24309_a_missing_partner_does_not_matter() {
    let all = attention(8, 2, DType::F32);
    let whole = plan(&all, 3, &MetaOptions::default());
    for skip in 0..all.len() {
        let some: Vec<Leaf> = attention(8, 2, DType::F32)
            .into_iter()
            .enumerate()
            .filter_map(|(i, l)| (i != skip).then_some(l))
            .collect();
        let some = plan(&some, 3, &MetaOptions::default());
        assert_eq!(some.groups()[0].parts, whole.groups()[0].parts);
    }
}

#[test]
fn widths_of_two_or_three_blocks() {
    let two = plan(
        &width(512, DType::Q4_K, DType::Q4_K),
        3,
        &MetaOptions::default(),
    );
    let mut found = lens(&two, "down");
    found.sort_unstable();
    assert_eq!(found, [0, 256, 256]);
    let three = plan(
        &width(768, DType::Q4_K, DType::Q4_K),
        2,
        &ratios(&[2.0, 1.0]),
    );
    assert_eq!(lens(&three, "gate"), [512, 256]);
}

#[test]
fn the_order_of_leaves_does_not_matter() {
    let mut leaves = attention(8, 2, DType::Q4_K);
    leaves.extend(width(704, DType::Q8_0, DType::Q8_0));
    let forth = plan(&leaves, 4, &MetaOptions::default());
    leaves.reverse();
    let back = plan(&leaves, 4, &MetaOptions::default());
    for l in &leaves {
        assert_eq!(forth.sharding(&l.name), back.sharding(&l.name));
    }
}

#[test]
fn leftovers_go_to_other_members_in_other_layers() {
    let mut totals = [0; 3];
    for layer in 0..30 {
        let mut leaves = width(512, DType::Q4_K, DType::Q4_K);
        for l in &mut leaves {
            l.layer = Some(layer);
        }
        let plan = plan(&leaves, 3, &MetaOptions::default());
        for (total, n) in totals.iter_mut().zip(lens(&plan, "down")) {
            *total += n / 256;
        }
    }
    assert_eq!(totals.iter().sum::<usize>(), 60);
    assert!(totals.iter().all(|n| n.abs_diff(20) <= 1), "{totals:?}");
}

/// A bank of `experts` experts of this width.
fn bank(experts: usize, ff: usize, dtype: DType) -> Vec<Leaf> {
    let links = |axis| {
        [
            Link::new("blk.0.width", Cut::Width, ff, axis, 1),
            Link::new("blk.0.experts", Cut::Experts, experts, 0, 1),
        ]
    };
    vec![
        leaf("gate", dtype, &[experts, ff, 256], &links(1)),
        leaf("down", dtype, &[experts, 256, ff], &links(2)),
        leaf(
            "scale",
            DType::F32,
            &[experts],
            &[Link::new("blk.0.experts", Cut::Experts, experts, 0, 1)],
        ),
    ]
}

#[test]
fn banks_are_cut_by_width_unless_that_loads_one_member_too_much() {
    let by = |members, ff, experts| {
        let options = MetaOptions {
            experts,
            ..MetaOptions::default()
        };
        let plan = plan(&bank(128, ff, DType::Q4_K), members, &options);
        assert_eq!(plan.groups().len(), 1);
        let reason = plan.groups()[0].reason.clone().unwrap();
        (split(&plan, "gate").axis(), plan.sharding("scale"), reason)
    };
    let (axis, scale, reason) = by(2, 512, ExpertSplit::Cheaper);
    assert_eq!((axis, scale), (1, Sharding::Replicated));
    assert_eq!(
        reason,
        "by width: the fullest member does 1.00 of its share by width, 1.25 by expert"
    );
    let (axis, scale, reason) = by(3, 512, ExpertSplit::Cheaper);
    assert_eq!((axis, scale == Sharding::Replicated), (0, false));
    assert_eq!(
        reason,
        "by expert: the fullest member does 1.50 of its share by width, 1.26 by expert"
    );
    assert_eq!(by(3, 512, ExpertSplit::Width).0, 1);
    assert_eq!(by(2, 512, ExpertSplit::Experts).0, 0);
}

#[test]
fn stretches_lie_one_after_another() {
    // q, k, v of one weight: 4 heads of 2, then twice 2 key heads of 2 shared by 2.
    let own = Stretch {
        unit: 2,
        shared_by: 1,
    };
    let shared = Stretch {
        unit: 2,
        shared_by: 2,
    };
    let link = Link {
        stretches: [own, shared, shared].into_iter().collect(),
        ..Link::new("h", Cut::Heads, 4, 0, 2)
    };
    let plan = plan(
        &[leaf("qkv", DType::F32, &[16, 8], &[link])],
        2,
        &MetaOptions::default(),
    );
    assert_eq!(
        split(&plan, "qkv").to_string(),
        "axis 0 as 0..4,8..10,12..14 | 4..8,10..12,14..16"
    );
}

#[test]
fn no_positions_and_no_links() {
    let none = Link::new("none", Cut::Width, 0, 0, 1);
    let leaves = [
        leaf("none", DType::F32, &[0, 4], &[none]),
        leaf("norm", DType::F32, &[8], &[]),
    ];
    let plan = plan(&leaves, 3, &MetaOptions::default());
    assert_eq!(lens(&plan, "none"), [0, 0, 0]);
    assert_eq!(plan.sharding("norm"), Sharding::Replicated);
    assert_eq!(plan.sharding("never heard of"), Sharding::Replicated);
}

#[test]
fn exact_sizes() {
    let exact = |sizes: &[usize]| MetaOptions {
        sizes: BTreeMap::from([("blk.0.width".to_owned(), sizes.to_vec())]),
        ..MetaOptions::default()
    };
    let leaves = width(704, DType::Q8_0, DType::Q8_0);
    assert_eq!(
        lens(&plan(&leaves, 2, &exact(&[640, 64])), "down"),
        [640, 64]
    );
    assert_eq!(
        refusal(&leaves, 2, &exact(&[350, 354])),
        "the sizes [350, 354] given for group \"blk.0.width\" cut one of its pieces of 32 positions, which down \
         (Q8_0 [256, 704]) must keep whole; the nearest sizes that do not are [352, 352]"
    );
    assert_eq!(
        refusal(&leaves, 3, &exact(&[352, 352])),
        "the sizes [352, 352] given for group \"blk.0.width\" do not fit: one size per member, here 3"
    );
    assert_eq!(
        refusal(&leaves, 2, &exact(&[352, 320])),
        "the sizes [352, 320] given for group \"blk.0.width\" do not fit: they add up to its positions, here 704"
    );
    let heads = MetaOptions {
        sizes: BTreeMap::from([("blk.0.heads".to_owned(), vec![3, 3, 2])]),
        ..MetaOptions::default()
    };
    assert_eq!(
        refusal(&attention(8, 2, DType::F32), 3, &heads),
        "the sizes [3, 3, 2] given for group \"blk.0.heads\" cut one of its pieces of 4 positions, which k (F32 [128, \
         256]), cache (F16 [16, 2, 64]) must keep whole; the nearest sizes that do not are [4, 2, 2]"
    );
}

#[test]
fn ratios_that_mean_nothing() {
    let leaves = width(64, DType::F32, DType::F32);
    let of = |members, r: &[f64]| refusal(&leaves, members, &ratios(r));
    assert_eq!(
        of(3, &[1.0, 2.0]),
        "the ratios [1.0, 2.0] do not fit 3 members: give one for each member"
    );
    assert_eq!(
        of(2, &[1.0, -2.0]),
        "the ratios [1.0, -2.0] do not fit 2 members: each must be a number that is not below 0"
    );
    assert_eq!(
        of(2, &[0.0, 0.0]),
        "the ratios [0.0, 0.0] do not fit 2 members: they must add up to a number above 0"
    );
    assert_eq!(
        of(0, &[]),
        "the ratios [] do not fit 0 members: there must be at least one member"
    );
}

#[test]
fn tensors_that_disagree_about_their_group() {
    let leaves = [
        leaf(
            "a",
            DType::F32,
            &[8],
            &[Link::new("w", Cut::Width, 8, 0, 1)],
        ),
        leaf(
            "b",
            DType::F32,
            &[6],
            &[Link::new("w", Cut::Width, 6, 0, 1)],
        ),
    ];
    assert_eq!(
        refusal(&leaves, 2, &MetaOptions::default()),
        "group \"w\" has 8 positions (Width) in tensor \"a\" and 6 positions (Width) in tensor \"b\"; one group is one \
         axis, cut once"
    );
}

/// Every element held, no block cut, every part in member order.
fn check_tensor(plan: &SplitPlan, l: &Leaf, positions: &[Range<usize>]) {
    let (split, link) = (split(plan, &l.name), &l.links[0]);
    let block = l.dtype.block_elems();
    let size = l.shape[link.axis];
    let mut held = vec![false; size];
    for (member, own) in positions.iter().enumerate() {
        for range in split.part(member) {
            if link.axis + 1 == l.shape.len() {
                assert!(
                    range.start.is_multiple_of(block) && range.end.is_multiple_of(block),
                    "{split}"
                );
            }
            held[range.clone()].fill(true);
        }
        // The tensor's part is that of the member's positions, and nothing else.
        let mut expected = Vec::new();
        let mut start = 0;
        for s in &link.stretches {
            for p in own.clone() {
                let unit = p / s.shared_by * s.unit;
                expected.extend((0..s.unit).map(|i| start + unit + i));
            }
            start += link.positions / s.shared_by * s.unit;
        }
        expected.sort_unstable();
        expected.dedup();
        let mut found: Vec<usize> = split.part(member).iter().cloned().flatten().collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
    assert!(held.iter().all(|h| *h), "{split}");
}

fn some_ratios() -> impl Strategy<Value = Vec<f64>> {
    let one = prop_oneof![Just(0.0), 1.0..4.0, Just(1.0)];
    proptest::collection::vec(one, 1..=10).prop_filter("somebody", |r| r.iter().any(|x| *x > 0.0))
}

fn some_dtype() -> impl Strategy<Value = DType> {
    prop_oneof![
        Just(DType::F32),
        Just(DType::F16),
        Just(DType::Q8_0),
        Just(DType::Q4_K)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn groups_of_any_formats_are_cut_alike(
        blocks in 0usize..12,
        gate in some_dtype(),
        down in some_dtype(),
        layer in 0usize..40,
        ratios in some_ratios(),
    ) {
        let ff = blocks * 256;
        let mut leaves = width(ff, gate, down);
        for l in &mut leaves {
            l.layer = Some(layer);
        }
        let options = MetaOptions { ratios: ratios.clone(), ..MetaOptions::default() };
        let made = plan(&leaves, ratios.len(), &options);
        prop_assert_eq!(&made, &plan(&leaves, ratios.len(), &options));
        let group = &made.groups()[0];
        let sum: f64 = ratios.iter().sum();
        for (part, ratio) in group.parts.iter().zip(&ratios) {
            prop_assert!(part.start.is_multiple_of(group.atom) && part.end.is_multiple_of(group.atom));
            // Within one atom of the exact share.
            #[allow(clippy::cast_precision_loss, reason = "a test")]
            let (exact, len) = (ff as f64 * ratio / sum, part.len() as f64);
            #[allow(clippy::cast_precision_loss, reason = "a test")]
            let atom = group.atom as f64;
            prop_assert!((exact - len).abs() < atom + 1e-6, "{} {}", group, exact);
            prop_assert!(*ratio > 0.0 || part.is_empty());
        }
        for l in &leaves {
            check_tensor(&made, l, &group.parts);
        }
    }

    #[test]
    fn every_query_head_finds_its_own_key_head(
        kv in 1usize..9,
        share in 1usize..9,
        quantised in any::<bool>(),
        layer in 0usize..40,
        ratios in some_ratios(),
    ) {
        let heads = kv * share;
        let dtype = if quantised { DType::Q8_0 } else { DType::F32 };
        let mut leaves = attention(heads, kv, dtype);
        for l in &mut leaves {
            l.layer = Some(layer);
        }
        let options = MetaOptions { ratios: ratios.clone(), ..MetaOptions::default() };
        let made = plan(&leaves, ratios.len(), &options);
        let group = &made.groups()[0];
        for l in &leaves {
            check_tensor(&made, l, &group.parts);
        }
        let (q, k) = (split(&made, "q"), split(&made, "cache"));
        for member in 0..ratios.len() {
            let own: Vec<usize> = k.part(member).iter().cloned().flatten().collect();
            let queries: Vec<usize> =
                q.over(64).unwrap().part(member).iter().cloned().flatten().collect();
            prop_assert_eq!(own.is_empty(), queries.is_empty());
            prop_assert!(own.is_empty() || queries.len().is_multiple_of(own.len()));
            for (i, query) in queries.iter().enumerate() {
                let group = queries.len() / own.len();
                prop_assert_eq!(own[i / group], query / share);
            }
        }
        // As many members work as there is work for.
        let able = ratios.iter().filter(|r| **r > 0.0).count();
        let working = group.parts.iter().filter(|p| !p.is_empty()).count();
        prop_assert!(working <= able);
        if ratios.iter().all(|r| *r == ratios[0]) {
            prop_assert_eq!(working.min(kv), able.min(kv));
        }
    }
}
