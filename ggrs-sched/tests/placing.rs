//! Homes, assignment and cuts, on devices that run nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use ggrs_core::device::Device;
use ggrs_core::device::null::NullDevice;
use ggrs_core::plan::PlanOptions;
use ggrs_core::{DType, Graph, GraphBuilder, Role, RoleKind, Value};
use ggrs_sched::{CopySource, Leaves, Pattern, Pin, Placement, SchedError, SchedPlan, Spread};

const F: DType = DType::F32;

fn devices(n: usize) -> Vec<Arc<dyn Device>> {
    let device = |i: usize| {
        let name = format!("null:{i}").parse().unwrap();
        Arc::new(NullDevice::new(name, 1 << 40)) as Arc<dyn Device>
    };
    (0..n).map(device).collect()
}

fn by_layer(n: usize) -> Placement {
    Placement {
        devices: devices(n),
        spread: Spread::Layers {
            shares: (0..n).map(|i| (i, 1.0)).collect(),
            n_spread: None,
            rest: 0,
        },
        pins: Vec::new(),
        stream_experts_from: None,
    }
}

/// Two devices, everything on the first but what is pinned.
fn pinned(pins: Vec<Pin>) -> Placement {
    Placement {
        devices: devices(2),
        spread: Spread::One(0),
        pins,
        stream_experts_from: None,
    }
}

fn on_name(glob: &str, device: usize) -> Pin {
    Pin {
        leaves: Leaves::Name(Pattern::new(glob).unwrap()),
        layers: None,
        device,
        origin: format!("--override-tensor {glob}=null:{device}"),
    }
}

fn weight(b: &mut GraphBuilder, name: &str, shape: [usize; 2], role: Role) -> Value {
    let w = b.weight(name, F, shape).unwrap();
    b.describe(w, role).unwrap();
    w
}

/// Layers of a product and a residual: `x = x + relu(w x)`.
fn chain(n_layers: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let table = weight(
        &mut b,
        "token_embd.weight",
        [32, 16],
        Role::new(RoleKind::Embedding),
    );
    let ids = b.input("tokens", DType::I32, [3]).unwrap();
    let mut x = b.get_rows(table, ids).unwrap();
    for layer in 0..n_layers {
        b.scope(&format!("blk.{layer}"));
        let role = Role::in_layer(RoleKind::Dense, layer);
        let w = weight(&mut b, &format!("blk.{layer}.w.weight"), [16, 16], role);
        let y = b.matmul(w, x).unwrap();
        let y = b.unary(ggrs_core::ops::UnaryKind::Relu, y).unwrap();
        x = b.add(y, x).unwrap();
    }
    b.scope("");
    let head = weight(
        &mut b,
        "output.weight",
        [32, 16],
        Role::new(RoleKind::Output),
    );
    let logits = b.matmul(head, x).unwrap();
    b.output("logits", logits).unwrap();
    b.seal().unwrap()
}

fn planned(graph: &Graph, placement: &Placement) -> SchedPlan {
    SchedPlan::new(graph, placement, &PlanOptions::default()).unwrap()
}

/// Which device runs the node of this name.
fn device_of(plan: &SchedPlan, node: &str) -> usize {
    let part = plan.parts.iter().find(|p| {
        let steps = p.plan.steps.iter();
        steps
            .into_iter()
            .any(|s| &*p.plan.graph.node(s.node).name == node)
    });
    part.expect("the node runs somewhere").device
}

#[test]
fn layers_go_to_devices_by_share_and_one_value_crosses_each_border() {
    for (shares, borders) in [
        (vec![1.0, 1.0], vec![4]),
        (vec![3.0, 1.0], vec![6]),
        (vec![1.0, 0.0], vec![]),
        (vec![0.0, 1.0], vec![]),
        (vec![1.0, 1.0, 2.0], vec![2, 4]),
    ] {
        let mut placement = by_layer(shares.len());
        let shares: Vec<(usize, f64)> = shares.into_iter().enumerate().collect();
        placement.spread = Spread::Layers {
            shares: shares.clone(),
            n_spread: None,
            rest: 0,
        };
        let plan = planned(&chain(8), &placement);
        let found: Vec<usize> = (1..8)
            .filter(|l| {
                let device = |l: usize| device_of(&plan, &format!("blk.{l}.matmul"));
                device(*l) != device(*l - 1)
            })
            .collect();
        assert_eq!(found, borders, "{shares:?}");
        let bytes: Vec<u64> = plan.copies.iter().map(|c| c.bytes).collect();
        assert_eq!(
            bytes,
            vec![3 * 16 * 4; borders.len()],
            "{shares:?}: {}",
            plan.explain()
        );
    }
}

#[test]
fn plans_are_equal_for_equal_inputs_and_explain_every_copy() {
    let (graph, placement) = (chain(6), by_layer(3));
    let plan = planned(&graph, &placement);
    assert_eq!(plan, planned(&graph, &placement));
    let text = plan.explain();
    assert!(
        text.contains("copy blk.1.add F32 [3, 16] (192 bytes) from null:0 to null:1"),
        "{text}"
    );
}

#[test]
fn the_last_layers_can_be_spread_and_the_others_rest() {
    let mut placement = by_layer(2);
    placement.spread = Spread::Layers {
        shares: vec![(1, 1.0)],
        n_spread: Some(2),
        rest: 0,
    };
    let plan = planned(&chain(6), &placement);
    let on: Vec<usize> = (0..6)
        .map(|l| device_of(&plan, &format!("blk.{l}.matmul")))
        .collect();
    assert_eq!(on, [0, 0, 0, 0, 1, 1]);
    assert_eq!(
        device_of(&plan, "matmul"),
        1,
        "the head goes with the last layer"
    );
}

#[test]
fn pins_hold_before_layers_and_the_first_pin_before_the_others() {
    let mut placement = by_layer(2);
    placement.pins = vec![
        on_name("blk.5.*", 0),
        on_name("blk.[45].*", 1),
        on_name("blk.0.*", 1),
    ];
    let plan = planned(&chain(6), &placement);
    let on: Vec<usize> = (0..6)
        .map(|l| device_of(&plan, &format!("blk.{l}.matmul")))
        .collect();
    assert_eq!(on, [1, 0, 0, 1, 1, 0]);
    let home = plan
        .homes
        .iter()
        .find(|h| h.name == "blk.5.w.weight")
        .unwrap();
    assert_eq!(home.why, "--override-tensor blk.5.*=null:0");
}

#[test]
fn unheld_nodes_go_where_the_fewest_bytes_are_copied() {
    // A wide product on device 1 whose sum alone is wanted on device 0.
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [1, 16]).unwrap();
    let wide = b.weight("wide", F, [4096, 16]).unwrap();
    let y = b.matmul(wide, x).unwrap();
    let y = b.unary(ggrs_core::ops::UnaryKind::Silu, y).unwrap();
    let y = b.sum(y, 1).unwrap();
    let last = b.weight("last", F, [8, 1]).unwrap();
    let z = b.matmul(last, y).unwrap();
    b.output("z", z).unwrap();
    let placement = pinned(vec![on_name("wide", 1)]);
    let plan = planned(&b.seal().unwrap(), &placement);
    let bytes: Vec<u64> = plan.copies.iter().map(|c| c.bytes).collect();
    assert_eq!(bytes, [4], "{}", plan.explain());
}

#[test]
fn one_value_crosses_a_border_that_a_residual_and_a_norm_share() {
    let mut b = GraphBuilder::new();
    let mut x = b.input("x", F, [3, 16]).unwrap();
    for layer in 0..4 {
        b.scope(&format!("blk.{layer}"));
        let role = Role::in_layer(RoleKind::Norm, layer);
        let norm = b
            .weight(&format!("blk.{layer}.norm.weight"), F, [16])
            .unwrap();
        b.describe(norm, role).unwrap();
        let normed = b.rms_norm(x, Some(norm), 1e-6).unwrap();
        let role = Role::in_layer(RoleKind::Dense, layer);
        let w = weight(&mut b, &format!("blk.{layer}.w.weight"), [16, 16], role);
        let y = b.matmul(w, normed).unwrap();
        x = b.add(y, x).unwrap();
    }
    b.output("y", x).unwrap();
    let plan = planned(&b.seal().unwrap(), &by_layer(2));
    let names: Vec<&str> = plan.copies.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["blk.1.add"], "{}", plan.explain());
    let fused = |part: &ggrs_sched::PlanPart| {
        let steps = part.plan.steps.iter();
        let stems = steps.map(|s| part.plan.graph.node(s.node).op.spec().stem());
        stems.filter(|s| *s == "add_rms_norm").count()
    };
    let fused: Vec<usize> = plan.parts.iter().map(fused).collect();
    assert_eq!(fused, [1, 1], "inside a device they are one op");
}

#[test]
fn a_strided_view_crosses_as_what_it_shows() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [5, 60]).unwrap();
    let first = b.weight("first", F, [60, 60]).unwrap();
    let y = b.matmul(first, x).unwrap();
    let order = b.argsort(y, ggrs_core::ops::SortOrder::Descending).unwrap();
    let top = b.slice(order, 1, 0, 8).unwrap();
    let bank = b.weight("bank", F, [60, 4, 60]).unwrap();
    let rows = b.reshape(x, [5, 1, 60]).unwrap();
    let out = b.matmul_id(bank, rows, top).unwrap();
    b.output("out", out).unwrap();
    let placement = pinned(vec![on_name("bank", 1)]);
    let plan = planned(&b.seal().unwrap(), &placement);
    let bytes: Vec<u64> = plan.copies.iter().map(|c| c.bytes).collect();
    assert_eq!(bytes, [5 * 8 * 4], "{}", plan.explain());
    assert!(matches!(plan.copies[0].from, CopySource::Part { .. }));
}

#[test]
fn a_weight_that_two_devices_read_is_kept_on_both_and_not_copied_in_runs() {
    let mut b = GraphBuilder::new();
    let table = weight(
        &mut b,
        "token_embd.weight",
        [32, 16],
        Role::new(RoleKind::Embedding),
    );
    let ids = b.input("tokens", DType::I32, [3]).unwrap();
    let x = b.get_rows(table, ids).unwrap();
    let w = weight(&mut b, "w", [16, 16], Role::in_layer(RoleKind::Dense, 1));
    let x = b.matmul(w, x).unwrap();
    let big = weight(&mut b, "big", [64, 16], Role::in_layer(RoleKind::Dense, 1));
    // One op that reads a weight of each device: the larger one holds it.
    let mixed = b.matmul(table, x).unwrap();
    let y = b.matmul(big, x).unwrap();
    b.output("mixed", mixed).unwrap();
    b.output("y", y).unwrap();
    let placement = pinned(vec![on_name("w", 1), on_name("big", 1)]);
    let plan = planned(&b.seal().unwrap(), &placement);
    let values: Vec<&str> = plan.copies.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(values, ["get_rows", "matmul"], "{}", plan.explain());
}

#[test]
fn placements_that_are_not_possible_say_why() {
    let graph = chain(4);
    let message = |placement: &Placement| {
        let error = SchedPlan::new(&graph, placement, &PlanOptions::default()).unwrap_err();
        error.to_string()
    };
    let mut placement = by_layer(2);
    placement.pins = vec![on_name("blk.0.*", 7)];
    assert_eq!(
        message(&placement),
        "--override-tensor blk.0.*=null:7: there is no device 7; the devices are null:0, null:1"
    );
    let mut placement = by_layer(2);
    placement.spread = Spread::Layers {
        shares: vec![(0, 0.0), (1, 0.0)],
        n_spread: None,
        rest: 0,
    };
    assert_eq!(
        message(&placement),
        "the shares [0.0, 0.0] do not suit 2 devices: give one number of at least 0 for each, not all 0"
    );
    placement.devices.clear();
    assert!(matches!(
        placement.homes(&graph),
        Err(SchedError::NoDevices)
    ));
    let mut placement = by_layer(2);
    placement.pins = vec![on_name("blk.9.*", 1)];
    assert_eq!(
        placement.check_pins(&graph).unwrap_err().to_string(),
        "--override-tensor blk.9.*=null:1: the model has no tensor that this names; tensors are called \
         token_embd.weight, blk.0.w.weight, blk.1.w.weight, blk.2.w.weight"
    );
    let torn = pinned(vec![on_name("values", 1)]);
    let error = SchedPlan::new(&torn_states(), &torn, &PlanOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "attention \"attention\" uses \"keys\" on null:0 and \"values\" on null:1: keep both on one device"
    );
}

fn torn_states() -> Graph {
    let mut b = GraphBuilder::new();
    let q = b.input("q", F, [1, 2, 4, 8]).unwrap();
    let k = b.state("keys", F, [1, 6, 4, 8]).unwrap();
    let v = b.state("values", F, [1, 6, 4, 8]).unwrap();
    let attention = ggrs_core::ops::Attention {
        scale: ggrs_core::Real(1.0),
        softcap: None,
        visibility: ggrs_core::ops::Visibility::Full,
        sinks: false,
    };
    let y = b.attention(attention, q, k, v, &[]).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}
