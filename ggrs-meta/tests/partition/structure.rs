//! Which collectives there are, where, and how many bytes they move.

use std::collections::BTreeSet;

use ggrs_core::ops::{CollectiveKind, Op};
use ggrs_core::{Graph, Sharding};
use ggrs_meta::{ExpertSplit, MetaOptions, Partition, Reduction, SplitPlan, partition};

use crate::model::{Sizes, model};

fn split(graph: &Graph, members: usize, options: &MetaOptions) -> Partition {
    let plan = SplitPlan::new(graph, members, options).unwrap();
    partition(graph, &plan, options).unwrap()
}

fn bytes(made: &Partition) -> Vec<u64> {
    made.collectives.iter().map(|c| c.bytes).collect()
}

const ROW: u64 = 64 * 4;

#[test]
fn a_dense_layer_adds_up_twice() {
    let sizes = Sizes {
        cut_embedding: false,
        ..Sizes::default()
    };
    let (graph, _) = model(&sizes);
    for members in [2, 3, 5] {
        let made = split(&graph, members, &MetaOptions::default());
        assert!(
            made.collectives
                .iter()
                .all(|c| c.kind == CollectiveKind::AllReduce)
        );
        // Three tokens; behind the last attention only the two rows that are asked for.
        assert_eq!(bytes(&made), [3 * ROW, 3 * ROW, 2 * ROW, 2 * ROW]);
        let why = &made.collectives[0].why;
        assert!(why.starts_with("add needs the sum"), "{why}");
        // The logits stay where they are made.
        let (_, logits) = graph.outputs().next().unwrap();
        assert!(matches!(&made.shardings[logits.index()], Sharding::Split(s) if s.axis() == 1));
    }
}

#[test]
fn a_layer_of_experts_adds_up_twice_however_it_is_cut() {
    let sizes = Sizes {
        experts: 6,
        ff: 64,
        cut_embedding: false,
        ..Sizes::default()
    };
    let (graph, _) = model(&sizes);
    for experts in [ExpertSplit::Width, ExpertSplit::Experts] {
        let options = MetaOptions {
            experts,
            ..MetaOptions::default()
        };
        // Behind the sum over a token's experts, not before.
        assert_eq!(
            bytes(&split(&graph, 3, &options)),
            [3 * ROW; 4],
            "{experts:?}"
        );
        let eager = MetaOptions {
            reduction: Reduction::EAGER,
            ..options
        };
        let eager = bytes(&split(&graph, 3, &eager));
        assert!(eager.contains(&(2 * 3 * ROW)), "{experts:?}: {eager:?}");
    }
}

#[test]
fn a_cut_embedding_costs_one_sum() {
    let (graph, _) = model(&Sizes {
        layers: 1,
        ..Sizes::default()
    });
    let made = split(&graph, 2, &MetaOptions::default());
    assert_eq!(made.collectives.len(), 3);
    assert_eq!(made.collectives[0].bytes, 3 * ROW);
}

#[test]
fn only_candidates_travel() {
    let sizes = Sizes {
        layers: 1,
        choose: true,
        vocab: 500,
        cut_embedding: false,
        ..Sizes::default()
    };
    let (graph, _) = model(&sizes);
    let made = split(&graph, 4, &MetaOptions::default());
    let gathers: Vec<u64> = made
        .collectives
        .iter()
        .filter(|c| matches!(c.kind, CollectiveKind::AllGather { axis: 1 }))
        .map(|c| c.bytes)
        .collect();
    // Two rows: one candidate of each of four members, then five of each; values and ids.
    assert_eq!(gathers, [2 * 4 * 4, 2 * 4 * 4, 2 * 20 * 4, 2 * 20 * 4]);
}

#[test]
fn members_have_the_whole_graphs_names() {
    let (graph, _) = model(&Sizes::default());
    let made = split(&graph, 3, &MetaOptions::default());
    let whole: BTreeSet<&str> = graph.leaves().map(|(n, _, _)| n).collect();
    for (member, own) in made.graphs.iter().enumerate() {
        for (name, kind, _) in own.leaves() {
            let is_constant = matches!(kind, ggrs_core::ops::LeafKind::Constant(_));
            assert!(is_constant || whole.contains(name), "{member} has {name}");
        }
        let outputs: Vec<&str> = own.outputs().map(|(n, _)| n).collect();
        assert_eq!(outputs, ["logits"]);
    }
}

#[test]
fn a_member_without_a_ratio_holds_no_cut_weight_and_takes_part_in_every_sum() {
    let (graph, _) = model(&Sizes::default());
    let options = MetaOptions {
        ratios: vec![1.0, 0.0],
        ..MetaOptions::default()
    };
    let made = split(&graph, 2, &options);
    let idle = &made.graphs[1];
    let weights: Vec<&str> = idle
        .leaves()
        .map(|(n, _, _)| n)
        .filter(|n| n.contains("attn_q"))
        .collect();
    assert_eq!(weights, ["blk.0.attn_q_norm", "blk.1.attn_q_norm"]);
    let n = idle
        .nodes()
        .iter()
        .filter(|n| matches!(n.op, Op::Collective(_)))
        .count();
    assert_eq!(n, made.collectives.len());
    assert!(idle.nodes().iter().all(|n| !matches!(n.op, Op::MatMul(_))));
}

#[test]
fn one_member_runs_the_graph_itself() {
    let (graph, _) = model(&Sizes::default());
    let made = split(&graph, 1, &MetaOptions::default());
    assert_eq!(made.graphs, [graph]);
    assert!(made.collectives.is_empty());
}

#[test]
fn equal_graphs_have_equal_partitions() {
    let sizes = Sizes {
        experts: 6,
        ff: 64,
        ..Sizes::default()
    };
    let made = || split(&model(&sizes).0, 4, &MetaOptions::default());
    let (a, b) = (made(), made());
    assert_eq!(a.graphs, b.graphs);
    assert_eq!(a.shardings, b.shardings);
    assert_eq!(a.collectives, b.collectives);
}

/// A graph of the size of a large model: what it takes to split it is printed, and bounded far above what it should.
#[test]
fn a_large_graph_is_split_in_no_time() {
    let sizes = Sizes {
        layers: 48,
        experts: 8,
        ff: 64,
        ..Sizes::default()
    };
    let (graph, _) = model(&sizes);
    let start = std::time::Instant::now();
    let made = split(&graph, 4, &MetaOptions::default());
    let took = start.elapsed();
    println!(
        "{} nodes, 4 members, {} collectives: {took:?}",
        graph.nodes().len(),
        made.collectives.len()
    );
    assert!(graph.nodes().len() > 1400);
    assert!(took.as_secs() < 2, "{took:?}");
}
