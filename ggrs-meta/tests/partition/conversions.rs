//! Small graphs whose values must change their layout: the same answers, and the collectives one would expect.

use ggrs_core::ops::{CollectiveKind, GluInput, GluKind, UnaryKind};
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Role, RoleKind, Stretch, Value};
use ggrs_meta::{MetaOptions, Partition, Reduction};

use crate::lockstep::{Data, fill, same};

const CASES: [&[f64]; 5] = [
    &[1.0, 1.0],
    &[3.0, 1.0],
    &[0.0, 1.0],
    &[1.0, 1.0, 1.0],
    &[1.0, 2.0, 3.0, 4.0],
];

fn weight(
    g: &mut GraphBuilder,
    name: &str,
    dtype: DType,
    shape: &[usize],
    link: Option<Link>,
) -> Value {
    let value = g.weight(name, dtype, shape).unwrap();
    let role = Role {
        kind: RoleKind::Dense,
        layer: None,
        links: link.into_iter().collect(),
    };
    g.describe(value, role).unwrap();
    value
}

fn link(group: &str, positions: usize, axis: usize) -> Option<Link> {
    Some(Link::new(group, Cut::Width, positions, axis, 1))
}

fn kinds(made: &Partition) -> Vec<&'static str> {
    let name = |kind| match kind {
        CollectiveKind::AllReduce => "reduce",
        CollectiveKind::AllGather { .. } => "gather",
        CollectiveKind::ReduceScatter { .. } => "scatter",
    };
    made.collectives.iter().map(|c| name(c.kind)).collect()
}

/// Runs at every ratio, late and eager; the collectives of the late ones.
fn check(graph: &Graph, data: Data) -> Vec<Vec<&'static str>> {
    let data = fill(graph, data);
    let run = |ratios: &[f64], reduction| {
        let options = MetaOptions {
            ratios: ratios.to_vec(),
            reduction,
            ..MetaOptions::default()
        };
        same(graph, &data, ratios.len(), &options)
    };
    CASES
        .iter()
        .map(|ratios| {
            run(ratios, Reduction::EAGER);
            kinds(&run(ratios, Reduction::default()))
        })
        .collect()
}

#[test]
fn parts_are_gathered_for_an_op_that_needs_rows() {
    let mut g = GraphBuilder::new();
    let w = weight(&mut g, "w", DType::F32, &[24, 8], link("w", 24, 0));
    let x = g.input("x", DType::F32, [3, 8]).unwrap();
    let y = g.matmul(w, x).unwrap();
    let a = g.softmax(y, 1.0, None, None).unwrap();
    let b = g.rms_norm(y, None, 1e-6).unwrap();
    let sum = g.add(a, b).unwrap();
    g.output("y", sum).unwrap();
    // Once for both readers.
    assert!(
        check(&g.seal().unwrap(), Data::new())
            .iter()
            .all(|k| k == &["gather"])
    );
}

#[test]
fn a_cut_becomes_another_cut() {
    let mut g = GraphBuilder::new();
    // One group in atoms of 32, one in single positions.
    let a = weight(&mut g, "a", DType::F32, &[96, 8], link("a", 96, 0));
    let block = weight(&mut g, "block", DType::Q8_0, &[4, 96], link("a", 96, 1));
    let b = weight(&mut g, "b", DType::F32, &[96, 8], link("b", 96, 0));
    let x = g.input("x", DType::F32, [3, 8]).unwrap();
    let (a, b) = (g.matmul(a, x).unwrap(), g.matmul(b, x).unwrap());
    let sum = g.add(a, b).unwrap();
    let y = g.matmul(block, sum).unwrap();
    g.output("y", y).unwrap();
    let found = check(&g.seal().unwrap(), Data::new());
    assert_eq!(
        found[0],
        ["gather", "reduce"],
        "48 positions are no whole atoms"
    );
    assert_eq!(found[3], ["reduce"], "three atoms, three members");
}

#[test]
fn a_sum_that_meets_parts_is_scattered() {
    let mut g = GraphBuilder::new();
    let up = weight(&mut g, "up", DType::F32, &[24, 8], link("w", 24, 0));
    let down = weight(&mut g, "down", DType::F32, &[12, 24], link("w", 24, 1));
    let side = weight(&mut g, "side", DType::F32, &[12, 8], link("side", 12, 0));
    let x = g.input("x", DType::F32, [3, 8]).unwrap();
    let y = g.matmul(up, x).unwrap();
    let y = g.matmul(down, y).unwrap();
    let s = g.matmul(side, x).unwrap();
    let sum = g.mul(s, y).unwrap();
    g.output("y", sum).unwrap();
    assert!(
        check(&g.seal().unwrap(), Data::new())
            .iter()
            .all(|k| k == &["scatter"])
    );
}

/// Two blocks `down(up(x))` side by side.
fn two_blocks(g: &mut GraphBuilder) -> (Value, Value) {
    let x = g.input("x", DType::F32, [3, 8]).unwrap();
    let mut block = |name: &str| {
        let (up, down) = (format!("{name}.up"), format!("{name}.down"));
        let up = weight(g, &up, DType::F32, &[24, 8], link(name, 24, 0));
        let down = weight(g, &down, DType::F32, &[8, 24], link(name, 24, 1));
        let y = g.matmul(up, x).unwrap();
        g.matmul(down, y).unwrap()
    };
    (block("a"), block("b"))
}

#[test]
fn two_sums_that_are_added_are_one() {
    let mut g = GraphBuilder::new();
    let (a, b) = two_blocks(&mut g);
    let sum = g.add(a, b).unwrap();
    g.output("y", sum).unwrap();
    let graph = g.seal().unwrap();
    assert!(check(&graph, Data::new()).iter().all(|k| k == &["reduce"]));
    let apart = MetaOptions {
        reduction: Reduction {
            merge: false,
            ..Reduction::default()
        },
        ..MetaOptions::default()
    };
    let made = same(&graph, &fill(&graph, Data::new()), 2, &apart);
    assert_eq!(kinds(&made), ["reduce", "reduce"]);
}

#[test]
fn a_sum_is_made_where_it_is_smallest() {
    let mut g = GraphBuilder::new();
    let (a, b) = two_blocks(&mut g);
    // One grows on its way to where it is needed, one shrinks.
    let many = g.input("many", DType::F32, [5, 3, 8]).unwrap();
    let a = g.scale(a, 0.5, 0.0).unwrap();
    let a = g.reshape(a, [1, 3, 8]).unwrap();
    let grown = g.mul(many, a).unwrap();
    let grown = g.unary(UnaryKind::Silu, grown).unwrap();
    let shrunk = g.sum(b, 0).unwrap();
    let shrunk = g.unary(UnaryKind::Silu, shrunk).unwrap();
    let sum = g.add(grown, shrunk).unwrap();
    g.output("y", sum).unwrap();
    let graph = g.seal().unwrap();
    let bytes = |reduction| {
        let options = MetaOptions {
            reduction,
            ..MetaOptions::default()
        };
        let made = same(&graph, &fill(&graph, Data::new()), 3, &options);
        let mut bytes: Vec<u64> = made.collectives.iter().map(|c| c.bytes).collect();
        bytes.sort_unstable();
        bytes
    };
    assert_eq!(bytes(Reduction::default()), [8 * 4, 3 * 8 * 4]);
    let last = Reduction {
        shrink: false,
        ..Reduction::default()
    };
    assert_eq!(bytes(last), [8 * 4, 5 * 3 * 8 * 4]);
}

#[test]
fn a_sum_needed_whole_is_made_once_for_all() {
    let mut g = GraphBuilder::new();
    let (a, _) = two_blocks(&mut g);
    let first = g.unary(UnaryKind::Silu, a).unwrap();
    let doubled = g.scale(a, 2.0, 0.0).unwrap();
    let second = g.unary(UnaryKind::Tanh, doubled).unwrap();
    let y = g.add(first, second).unwrap();
    g.output("y", y).unwrap();
    assert!(
        check(&g.seal().unwrap(), Data::new())
            .iter()
            .all(|k| k == &["reduce"])
    );
}

#[test]
fn an_output_that_is_a_sum_is_added_up() {
    let mut g = GraphBuilder::new();
    let (a, _) = two_blocks(&mut g);
    g.output("y", a).unwrap();
    assert!(
        check(&g.seal().unwrap(), Data::new())
            .iter()
            .all(|k| k == &["reduce"])
    );
}

#[test]
fn both_halves_of_one_weight_are_cut_alike() {
    let mut g = GraphBuilder::new();
    let both = Link {
        stretches: [Stretch {
            unit: 1,
            shared_by: 1,
        }; 2]
            .into_iter()
            .collect(),
        ..Link::new("w", Cut::Width, 24, 0, 1)
    };
    let gate_up = weight(&mut g, "gate_up", DType::F32, &[48, 8], Some(both));
    let down = weight(&mut g, "down", DType::F32, &[8, 24], link("w", 24, 1));
    let x = g.input("x", DType::F32, [3, 8]).unwrap();
    let y = g.matmul(gate_up, x).unwrap();
    let y = g.glu_fused(GluKind::Geglu, GluInput::GateUp, y).unwrap();
    let y = g.matmul(down, y).unwrap();
    g.output("y", y).unwrap();
    assert!(
        check(&g.seal().unwrap(), Data::new())
            .iter()
            .all(|k| k == &["reduce"])
    );
}

#[test]
fn halves_are_gathered_as_floats() {
    let mut g = GraphBuilder::new();
    // No rule for rows of several tables: the table is needed whole.
    let table = weight(&mut g, "table", DType::F16, &[2, 12, 8], link("t", 12, 1));
    let ids = g.input("ids", DType::I32, [2, 3]).unwrap();
    let y = g.get_rows(table, ids).unwrap();
    g.output("y", y).unwrap();
    let ids: Vec<u8> = [0i32, 11, 5, 7, 7, 1]
        .iter()
        .flat_map(|i| i.to_le_bytes())
        .collect();
    let given = Data::from([("ids".to_owned(), ids)]);
    assert!(
        check(&g.seal().unwrap(), given)
            .iter()
            .all(|k| k == &["gather"])
    );
}

#[test]
fn equal_values_are_found_at_the_lowest_position() {
    let mut g = GraphBuilder::new();
    let w = weight(&mut g, "w", DType::F32, &[40, 1], link("w", 40, 0));
    let x = g.input("x", DType::F32, [2, 1]).unwrap();
    let y = g.matmul(w, x).unwrap();
    let (values, ids) = g.top_k(y, 4).unwrap();
    let best = g.argmax(y).unwrap();
    g.output("values", values).unwrap();
    g.output("ids", ids).unwrap();
    g.output("best", best).unwrap();
    let graph = g.seal().unwrap();
    // The same few values over and over, so that every member has them.
    let values: Vec<f32> = (0..40).map(|i| [1.0, 3.0, 2.0, 3.0, 0.5][i % 5]).collect();
    let given = Data::from([
        ("w".to_owned(), crate::lockstep::bytes(&values)),
        ("x".to_owned(), crate::lockstep::bytes(&[1.0, -1.0])),
    ]);
    check(&graph, given);
}

#[test]
fn a_member_with_nothing_to_do_has_an_empty_output() {
    let mut g = GraphBuilder::new();
    let w = weight(&mut g, "w", DType::F32, &[4, 8], link("w", 4, 0));
    let x = g.input("x", DType::F32, [3, 8]).unwrap();
    let y = g.matmul(w, x).unwrap();
    g.output("y", y).unwrap();
    let graph = g.seal().unwrap();
    let options = MetaOptions {
        ratios: vec![1.0, 0.0],
        ..MetaOptions::default()
    };
    let made = same(&graph, &fill(&graph, Data::new()), 2, &options);
    assert!(made.collectives.is_empty());
    let idle = &made.graphs[1];
    let (name, value) = idle.outputs().next().unwrap();
    assert_eq!((name, idle.desc(value).bytes()), ("y", Some(0)));
}

#[test]
fn a_send_takes_sums_added_up_and_parts_as_they_are() {
    let mut g = GraphBuilder::new();
    let (a, _) = two_blocks(&mut g);
    let w = weight(&mut g, "w", DType::F32, &[6, 8], link("w", 6, 0));
    let x = g.input("more", DType::F32, [3, 8]).unwrap();
    let part = g.matmul(w, x).unwrap();
    for (tag, value) in [(0, a), (1, part)] {
        g.push(ggrs_core::ops::Send { tag }, &[value]).unwrap();
    }
    let graph = g.seal().unwrap();
    let options = MetaOptions::default();
    let plan = ggrs_meta::SplitPlan::new(&graph, 2, &options).unwrap();
    let made = ggrs_meta::partition(&graph, &plan, &options).unwrap();
    assert_eq!(kinds(&made), ["reduce"]);
    for own in &made.graphs {
        let sent: Vec<Vec<usize>> = own
            .nodes()
            .iter()
            .filter(|n| matches!(n.op, ggrs_core::ops::Op::Send(_)))
            .map(|n| own.desc(n.inputs[0]).shape.sizes().to_vec())
            .collect();
        assert_eq!(sent, [[3, 8], [3, 3]]);
    }
}
