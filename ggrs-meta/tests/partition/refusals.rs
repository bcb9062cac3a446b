//! What is refused, and the words it is refused with.

use ggrs_core::ops::CollectiveKind;
use ggrs_core::{
    Cut, DType, Graph, GraphBuilder, Link, PlanError, Role, RoleKind, Sharding, Value,
};
use ggrs_meta::{MetaOptions, Partition, SplitPlan, partition, verify};

fn linked(g: &mut GraphBuilder, value: Value, link: Link) {
    let role = Role {
        kind: RoleKind::Kv,
        layer: None,
        links: std::iter::once(link).collect(),
    };
    g.describe(value, role).unwrap();
}

fn split(graph: &Graph) -> Result<Partition, PlanError> {
    let options = MetaOptions::default();
    partition(graph, &SplitPlan::new(graph, 2, &options)?, &options)
}

fn refusal(graph: &Graph) -> String {
    split(graph).unwrap_err().to_string()
}

#[test]
fn a_state_that_would_have_to_be_laid_out_anew() {
    let mut g = GraphBuilder::new();
    let state = g.state("kv.0.k", DType::F32, [8, 4]).unwrap();
    linked(&mut g, state, Link::new("cells", Cut::Width, 8, 0, 1));
    let rows = g.input("rows", DType::F32, [2, 4]).unwrap();
    let ids = g.input("ids", DType::I32, [2]).unwrap();
    let written = g.set_rows(state, rows, ids).unwrap();
    g.output("y", written).unwrap();
    assert_eq!(
        refusal(&g.seal().unwrap()),
        "set_rows \"set_rows\" writes state \"kv.0.k\", which is split along axis 0 as 0..4 | 4..8, and could do so \
         only if it were replicated; link the state to the group of what is written into it, or leave both unlinked"
    );
}

#[test]
fn blocks_that_would_have_to_be_gathered() {
    let mut g = GraphBuilder::new();
    let table = g.weight("table", DType::Q8_0, [2, 4, 32]).unwrap();
    linked(&mut g, table, Link::new("rows", Cut::Width, 4, 1, 1));
    let ids = g.input("ids", DType::I32, [2, 3]).unwrap();
    let y = g.get_rows(table, ids).unwrap();
    g.output("y", y).unwrap();
    assert_eq!(
        refusal(&g.seal().unwrap()),
        "get_rows \"get_rows\" needs the whole of \"table\", which is split along axis 1 as 0..2 | 2..4, and Q8_0 \
         values are not gathered; leave the tensor it comes from unlinked"
    );
}

#[test]
fn a_graph_that_is_already_a_members() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", DType::F32, [4]).unwrap();
    let y = g.collective(CollectiveKind::AllReduce, 2, x).unwrap();
    g.output("y", y).unwrap();
    assert_eq!(
        refusal(&g.seal().unwrap()),
        "\"all_reduce\" is a collective over 2 members: the graph is already a member's; split the whole one"
    );
}

#[test]
fn a_graph_with_open_symbols() {
    let mut g = GraphBuilder::new();
    let tokens = g.symbol("tokens", 8).unwrap();
    let x = g.input("x", DType::F32, [tokens]).unwrap();
    let y = g.scale(x, 2.0, 0.0).unwrap();
    g.output("y", y).unwrap();
    assert_eq!(
        refusal(&g.seal().unwrap()),
        "the graph still has symbols (tokens): bind it first"
    );
}

/// `y = down(up(x))`.
fn block() -> (Graph, Partition) {
    let mut g = GraphBuilder::new();
    let up = g.weight("up", DType::F32, [8, 4]).unwrap();
    linked(&mut g, up, Link::new("w", Cut::Width, 8, 0, 1));
    let down = g.weight("down", DType::F32, [4, 8]).unwrap();
    linked(&mut g, down, Link::new("w", Cut::Width, 8, 1, 1));
    let x = g.input("x", DType::F32, [3, 4]).unwrap();
    let y = g.matmul(up, x).unwrap();
    let y = g.matmul(down, y).unwrap();
    g.output("y", y).unwrap();
    let graph = g.seal().unwrap();
    let made = split(&graph).unwrap();
    (graph, made)
}

#[test]
fn a_broken_partition_is_noticed() {
    let (graph, made) = block();
    assert_eq!(verify(&graph, &made), Ok(()));

    let mut partial = made.clone();
    let (_, y) = graph.outputs().next().unwrap();
    partial.shardings[y.index()] = Sharding::Partial;
    let error = verify(&graph, &partial).unwrap_err();
    assert_eq!(error.to_string(), "output \"y\" would be partial sums");

    // A member that does it all alone meets nobody.
    let mut alone = made.clone();
    alone.graphs[1] = graph.clone();
    let error = verify(&graph, &alone).unwrap_err();
    assert_eq!(
        error.to_string(),
        "at exchange 0 member 0 runs all_reduce \"matmul_2.all_reduce\" and member 1 runs nothing"
    );

    let mut unlike = made;
    unlike.graphs[0] = unlike.graphs[1].clone();
    unlike.shardings[y.index()] = Sharding::Split(ggrs_core::Split::by_sizes(0, &[1, 2]));
    let error = verify(&graph, &unlike).unwrap_err();
    assert_eq!(
        error.to_string(),
        "matmul \"matmul_2\" gives [3, 4] on member 0, its share of F32 [3, 4] (split along axis 0 as 0..1 | 1..3) is [1, 4]"
    );
}
