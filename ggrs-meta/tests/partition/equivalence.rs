//! The same answers on any number of members, at any ratio, however sums are delayed.

use ggrs_core::DType;
use ggrs_meta::{ExpertSplit, MetaOptions, Reduction};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::lockstep::same;
use crate::model::{Sizes, model};

const RATIOS: [&[f64]; 8] = [
    &[1.0],
    &[1.0, 1.0],
    &[3.0, 1.0],
    &[1.0, 0.0],
    &[30.0, 25.0],
    &[1.0, 1.0, 1.0],
    &[5.0, 3.0, 2.0, 1.0],
    &[1.0, 1.0, 1.0, 1.0, 1.0],
];

fn everywhere(sizes: &Sizes, experts: ExpertSplit) {
    let (graph, data) = model(sizes);
    for ratios in RATIOS {
        for reduction in [Reduction::default(), Reduction::EAGER] {
            let options = MetaOptions {
                ratios: ratios.to_vec(),
                experts,
                reduction,
                ..MetaOptions::default()
            };
            same(&graph, &data, ratios.len(), &options);
        }
    }
}

#[test]
fn dense_layers_with_grouped_heads() {
    everywhere(&Sizes::default(), ExpertSplit::default());
}

#[test]
fn one_key_head() {
    let sizes = Sizes {
        kv_heads: 1,
        heads: 4,
        ..Sizes::default()
    };
    everywhere(&sizes, ExpertSplit::default());
}

#[test]
fn experts_by_width_and_by_expert() {
    let sizes = Sizes {
        experts: 6,
        ff: 64,
        ..Sizes::default()
    };
    for experts in [
        ExpertSplit::Width,
        ExpertSplit::Experts,
        ExpertSplit::Cheaper,
    ] {
        everywhere(&sizes, experts);
    }
}

#[test]
fn blocks_of_quantised_weights_stay_whole() {
    let sizes = Sizes {
        weights: DType::Q8_0,
        head: 32,
        experts: 3,
        ff: 64,
        ..Sizes::default()
    };
    for experts in [ExpertSplit::Width, ExpertSplit::Experts] {
        everywhere(&sizes, experts);
    }
}

#[test]
fn the_largest_of_a_cut_vocabulary() {
    let sizes = Sizes {
        layers: 1,
        choose: true,
        ..Sizes::default()
    };
    everywhere(&sizes, ExpertSplit::default());
}

#[test]
fn scenario_22391_22489_a_member_without_a_block_and_delayed_sums() {
    // Two blocks of hidden units on three members: one has none, in each layer another one.
    let sizes = Sizes {
        weights: DType::Q8_0,
        head: 32,
        ff: 64,
        layers: 3,
        ..Sizes::default()
    };
    let (graph, data) = model(&sizes);
    for reduction in [Reduction::default(), Reduction::EAGER] {
        let options = MetaOptions {
            reduction,
            ..MetaOptions::default()
        };
        same(&graph, &data, 3, &options);
    }
}

#[test]
fn scenario_24486_nine_and_ten_members() {
    let (graph, data) = model(&Sizes {
        layers: 1,
        ..Sizes::default()
    });
    for members in [9, 10] {
        same(&graph, &data, members, &MetaOptions::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_model_on_any_members(
        kv_heads in 1usize..4,
        share in 1usize..5,
        blocks in 1usize..4,
        experts in prop_oneof![Just(0usize), 2usize..7],
        by in prop_oneof![Just(ExpertSplit::Width), Just(ExpertSplit::Experts), Just(ExpertSplit::Cheaper)],
        quantised in any::<bool>(),
        cut_embedding in any::<bool>(),
        ratios in vec(prop_oneof![Just(0.0), Just(1.0), 0.5..4.0], 1..=6),
        late in any::<bool>(),
        merge in any::<bool>(),
        shrink in any::<bool>(),
    ) {
        prop_assume!(ratios.iter().any(|r| *r > 0.0));
        let sizes = Sizes {
            kv_heads,
            heads: kv_heads * share,
            head: if quantised { 32 } else { 16 },
            ff: 32 * blocks,
            experts,
            weights: if quantised { DType::Q8_0 } else { DType::F32 },
            cut_embedding,
            choose: true,
            ..Sizes::default()
        };
        let (graph, data) = model(&sizes);
        let options = MetaOptions {
            experts: by,
            reduction: Reduction { late, merge, shrink },
            ratios,
            ..MetaOptions::default()
        };
        same(&graph, &data, options.ratios.len(), &options);
    }
}
