//! The same answers on any number of members, at any ratio, however sums are delayed.

use ggrs_core::DType;
use ggrs_meta::{ExpertSplit, MetaOptions, Reduction};

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
fn nine_and_ten_members() {
    let (graph, data) = model(&Sizes {
        layers: 1,
        ..Sizes::default()
    });
    for members in [9, 10] {
        same(&graph, &data, members, &MetaOptions::default());
    }
}
