//! Plans on the null device: golden texts, determinism, what each pass does and does not do.
//!
//! `GGRS_BLESS=1` rewrites the golden files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use ggrs_core::device::DeviceName;
use ggrs_core::device::null::NullDevice;
use ggrs_core::ops::{Attention, GluKind, Rope, RopeMode, RouteExperts, Visibility, Yarn};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{Plan, PlanOptions, Region, plan};
use ggrs_core::{DType, Dim, Graph, GraphBuilder, GraphError, Pages, Real, Shape};

const F: DType = DType::F32;

fn null() -> NullDevice {
    NullDevice::new(
        DeviceName {
            backend: "null".into(),
            index: 0,
            members: 1,
        },
        1 << 30,
    )
}

fn planned(graph: &Graph, passes: PassSet) -> Plan {
    plan(
        graph,
        &null(),
        &PlanOptions {
            passes,
            ..PlanOptions::default()
        },
    )
    .expect("the graph has a plan")
}

/// One layer of a mixture of experts over a paged cache, as a model would write it.
fn moe_layer() -> Result<Graph, GraphError> {
    let (e, h, hk, d, f, n_experts, n_used, block) = (64, 4, 2, 16, 32, 8, 2, 16);
    let mut b = GraphBuilder::new();
    let tokens = b.symbol("tokens", 64)?;
    let t = Dim::Sym(tokens);
    let dims =
        |dims: &[usize]| Shape::new(std::iter::once(t).chain(dims.iter().map(|n| Dim::Fixed(*n))));
    let x = b.input("x", F, dims(&[e]))?;
    let pages = Pages {
        positions: b.input("positions", DType::I32, dims(&[]))?,
        slots: b.input("slots", DType::I32, dims(&[]))?,
        table: b.input("table", DType::I32, [1, 4])?,
    };

    b.scope("attn");
    let norm = b.weight("attn_norm", F, [e])?;
    let normed = b.rms_norm(x, None, 1e-6)?;
    let normed = b.mul(normed, norm)?;
    let project = |b: &mut GraphBuilder, name: &str, heads: usize| {
        let w = b.weight(name, DType::Q8_0, [heads * d, e])?;
        let y = b.matmul(w, normed)?;
        b.reshape(y, dims(&[heads, d]))
    };
    let (q, k, v) = (
        project(&mut b, "q", h)?,
        project(&mut b, "k", hk)?,
        project(&mut b, "v", hk)?,
    );
    let rope = Rope {
        mode: RopeMode::Neox,
        n_rot: d,
        base: Real(1e6),
        yarn: Yarn::default(),
        factors: false,
    };
    let q = b.rope(rope.clone(), q, pages.positions, None)?;
    let k = b.rope(rope, k, pages.positions, None)?;
    let (kc, vc) = (
        b.state("kv.k", DType::F16, [64, hk, d])?,
        b.state("kv.v", DType::F16, [64, hk, d])?,
    );
    let kc = b.cache_write(kc, k, pages, block)?;
    let vc = b.cache_write(vc, v, pages, block)?;
    let attention = Attention {
        scale: Real(0.25),
        softcap: None,
        visibility: Visibility::Paged {
            block,
            window: None,
        },
        sinks: false,
    };
    let mixed = b.attention(
        attention,
        q,
        kc,
        vc,
        &[pages.positions, pages.slots, pages.table],
    )?;
    let mixed = b.reshape(mixed, dims(&[h * d]))?;
    let wo = b.weight("o", DType::Q8_0, [e, h * d])?;
    let mixed = b.matmul(wo, mixed)?;
    let x = b.add(mixed, x)?;

    b.scope("ffn");
    let norm = b.weight("ffn_norm", F, [e])?;
    let normed = b.rms_norm(x, Some(norm), 1e-6)?;
    let router = b.weight("router", F, [n_experts, e])?;
    let logits = b.matmul(router, normed)?;
    let probabilities = b.softmax(logits, 1.0, None, None)?;
    let (weights, ids) = b.top_k(probabilities, n_used)?;
    let sum = b.sum(weights, 1)?;
    let sum = b.clamp(sum, RouteExperts::MIN_SUM, f32::INFINITY)?;
    let weights = b.div(weights, sum)?;
    let rows = b.reshape(normed, dims(&[1, e]))?;
    let gate = b.weight("gate", DType::Q8_0, [n_experts, f, e])?;
    let up = b.weight("up", DType::Q8_0, [n_experts, f, e])?;
    let down = b.weight("down", DType::Q8_0, [n_experts, e, f])?;
    let gate = b.matmul_id(gate, rows, ids)?;
    let up = b.matmul_id(up, rows, ids)?;
    let hidden = b.glu(GluKind::Swiglu, gate, up)?;
    let answers = b.matmul_id(down, hidden, ids)?;
    let weights = b.reshape(weights, dims(&[n_used, 1]))?;
    let answers = b.mul(answers, weights)?;
    let answer = b.sum(answers, 1)?;
    let answer = b.reshape(answer, dims(&[e]))?;
    let y = b.add(answer, x)?;
    b.output("y", y)?;
    b.seal()
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("GGRS_BLESS").is_some() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{name} differs; GGRS_BLESS=1 rewrites it. Now:\n{text}"
    );
}

#[test]
fn golden_graph_and_plans() {
    let graph = moe_layer().unwrap();
    golden("moe_layer.graph.txt", &graph.to_string());
    let bound = graph.bind(&[("tokens", 5)]).unwrap();
    golden(
        "moe_layer.plan.txt",
        &planned(&bound, PassSet::default()).explain(),
    );
    golden(
        "moe_layer.plan_without_passes.txt",
        &planned(&bound, PassSet::none()).explain(),
    );
    let json = planned(&bound, PassSet::default()).explain_json();
    golden("moe_layer.plan.json", &format!("{json:#}\n"));
}

#[test]
fn equal_inputs_give_equal_plans() {
    let plans: Vec<Plan> = (0..3)
        .map(|_| {
            planned(
                &moe_layer().unwrap().bind(&[("tokens", 7)]).unwrap(),
                PassSet::default(),
            )
        })
        .collect();
    assert!(
        plans
            .windows(2)
            .all(|w| w[0] == w[1] && w[0].explain() == w[1].explain())
    );
}

fn stems(plan: &Plan) -> Vec<&'static str> {
    plan.steps
        .iter()
        .map(|s| plan.graph.node(s.node).op.spec().stem())
        .collect()
}

#[test]
fn each_fusion_can_be_switched_off() {
    let graph = moe_layer().unwrap().bind(&[("tokens", 3)]).unwrap();
    let fused = [
        ("fuse_gate_up", "matmul_id_glu"),
        ("fuse_add_norm", "add_rms_norm"),
        ("fuse_router", "route_experts"),
    ];
    for (pass, stem) in fused {
        assert!(
            stems(&planned(&graph, PassSet::default())).contains(&stem),
            "{pass}"
        );
        assert!(
            !stems(&planned(&graph, PassSet::default().without(pass))).contains(&stem),
            "{pass}"
        );
        assert!(
            stems(&planned(&graph, PassSet::none())).len()
                > stems(&planned(&graph, PassSet::default())).len()
        );
    }
    let weighted = |p: &Plan| {
        p.graph
            .nodes()
            .iter()
            .filter(|n| n.op.spec().stem() == "mul")
            .count()
    };
    assert_eq!(weighted(&planned(&graph, PassSet::default())), 1);
    assert_eq!(
        weighted(&planned(
            &graph,
            PassSet::default().without("fuse_norm_mul")
        )),
        2
    );
}

#[test]
fn fusions_say_why_they_stay_away() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [4, 32]).unwrap();
    let z = b.input("z", F, [4, 32]).unwrap();
    let w = b.weight("w", F, [16, 32]).unwrap();
    let (gate, up) = (b.matmul(w, x).unwrap(), b.matmul(w, z).unwrap());
    let y = b.glu(GluKind::Swiglu, gate, up).unwrap();
    b.output("y", y).unwrap();
    let norm = b.rms_norm(x, None, 1e-6).unwrap();
    let factor = b.input("factor", F, [4, 32]).unwrap();
    let scaled = b.mul(norm, factor).unwrap();
    b.output("scaled", scaled).unwrap();
    let plan = planned(&b.seal().unwrap(), PassSet::default());
    let said: Vec<String> = plan
        .passes
        .iter()
        .filter(|p| !p.rejected.is_empty())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        said,
        [
            "fuse_norm_mul: 0 applied; not mul: the factor is not an F32 vector as wide as the norm",
            "fuse_gate_up: 0 applied; not swiglu: gate and up are products of different activations",
        ]
    );
}

#[test]
fn equal_nodes_merge_but_not_across_a_write() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [2, 8]).unwrap();
    let (p, q) = (b.scale(x, 2.0, 0.0).unwrap(), b.scale(x, 2.0, 0.0).unwrap());
    let twice = b.add(p, q).unwrap();
    b.output("twice", twice).unwrap();
    let state = b.state("s", F, [4, 8]).unwrap();
    let before = b.scale(state, 2.0, 0.0).unwrap();
    let ids = b.input("ids", DType::I32, [2]).unwrap();
    let state = b.set_rows(state, x, ids).unwrap();
    let after = b.scale(state, 2.0, 0.0).unwrap();
    let difference = b.sub(after, before).unwrap();
    b.output("difference", difference).unwrap();
    let plan = planned(
        &b.seal().unwrap(),
        PassSet::only(PassSet::default(), "merge_equal"),
    );
    assert_eq!(
        stems(&plan),
        ["scale", "add", "scale", "set_rows", "scale", "sub"]
    );
}

#[test]
fn a_state_written_for_later_is_not_dead() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [2, 8]).unwrap();
    let state = b.state("s", F, [2, 8]).unwrap();
    b.store(state, x).unwrap();
    let unused = b.scale(x, 3.0, 0.0).unwrap();
    b.scale(unused, 3.0, 0.0).unwrap();
    let plan = planned(&b.seal().unwrap(), PassSet::default());
    assert_eq!(stems(&plan), ["store"]);
}

#[test]
fn views_share_their_storage_and_run_nothing() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [4, 6]).unwrap();
    let y = b.scale(x, 2.0, 0.0).unwrap();
    let t = b.permute(y, &[1, 0]).unwrap();
    let back = b.permute(t, &[1, 0]).unwrap();
    let flat = b.reshape(back, [24]).unwrap();
    let again = b.reshape(flat, [2, 12]).unwrap();
    let z = b.scale(again, 2.0, 0.0).unwrap();
    b.output("z", z).unwrap();
    let plan = planned(&b.seal().unwrap(), PassSet::default());
    assert_eq!(stems(&plan), ["scale", "scale"]);
    assert!(
        plan.graph
            .nodes()
            .iter()
            .filter(|n| n.op.spec().stem() == "permute")
            .count()
            == 0
    );
    let second = plan.graph.node(plan.steps[1].node);
    let first = plan.graph.node(plan.steps[0].node);
    assert_eq!(plan.place(second.inputs[0]), plan.place(first.outputs[0]));
}

#[test]
fn values_that_live_together_do_not_overlap() {
    for tokens in [1, 5, 64] {
        for passes in [PassSet::none(), PassSet::default()] {
            let plan = planned(
                &moe_layer().unwrap().bind(&[("tokens", tokens)]).unwrap(),
                passes,
            );
            check_overlaps(&plan);
        }
    }
}

/// Lifetimes worked out from the steps alone, apart from the planner's own.
fn check_overlaps(plan: &Plan) {
    let end = plan.steps.len();
    let mut lives = Vec::new();
    for (i, v) in plan.graph.values().iter().enumerate() {
        let id = plan
            .graph
            .nodes()
            .iter()
            .flat_map(|n| n.outputs.iter())
            .find(|o| o.index() == i)
            .copied()
            .unwrap();
        let place = plan.place(id);
        if !matches!(place.region, Region::Arena(_)) {
            continue;
        }
        let touches = plan.steps.iter().enumerate().filter(|(_, s)| {
            let n = plan.graph.node(s.node);
            n.inputs.contains(&id) || n.outputs.contains(&id)
        });
        let steps: Vec<usize> = touches.map(|(s, _)| s).collect();
        let is_input = plan.inputs.iter().any(|x| x.value == v.storage);
        let is_output = plan.outputs.iter().any(|x| x.value == id);
        let first = if is_input {
            0
        } else {
            steps.first().copied().unwrap_or(end)
        };
        let last = if is_output || is_input {
            end
        } else {
            steps.last().copied().unwrap_or(first)
        };
        lives.push((v.storage, first, last, place));
    }
    for (i, a) in lives.iter().enumerate() {
        for b in lives.iter().skip(i + 1).filter(|b| b.0 != a.0) {
            let meet = a.1 <= b.2 && b.1 <= a.2;
            let apart =
                a.3.offset + a.3.bytes <= b.3.offset || b.3.offset + b.3.bytes <= a.3.offset;
            assert!(!meet || apart, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn binding_keeps_shapes_checked() {
    let mut b = GraphBuilder::new();
    let t = b.symbol("tokens", 64).unwrap();
    let x = b
        .input("x", F, Shape::new([Dim::Sym(t), Dim::Fixed(8)]))
        .unwrap();
    let fixed = b.input("fixed", F, [3, 8]).unwrap();
    // A symbol equals only itself, whatever its size will be.
    assert!(b.add(x, fixed).is_err());
    let y = b
        .reshape(x, Shape::new([Dim::Sym(t), Dim::Fixed(2), Dim::Fixed(4)]))
        .unwrap();
    assert!(b.reshape(y, [24]).is_err());
    b.output("y", y).unwrap();
    let graph = b.seal().unwrap();
    let bound = graph.bind(&[("tokens", 3)]).unwrap();
    let (_, y) = bound.outputs().next().unwrap();
    assert_eq!(bound.desc(y).shape.to_string(), "[3, 2, 4]");
    assert!(bound.symbols().is_empty());
}

/// A fused op is named after its place; a node further on may already have that name.
#[test]
fn names_stay_unique_through_fusions() {
    let mut b = GraphBuilder::new();
    let mut x = b.input("x", F, [4, 8]).unwrap();
    for i in 0..4 {
        let w = b.weight(&format!("w{i}"), F, [8]).unwrap();
        x = b.mul(x, w).unwrap();
        x = b.rms_norm(x, None, 1e-6).unwrap();
    }
    b.output("y", x).unwrap();
    let (graph, _) = PassSet::default().run(&b.seal().unwrap()).unwrap();
    let names: std::collections::BTreeSet<&str> = graph.nodes().iter().map(|n| &*n.name).collect();
    assert_eq!(names.len(), graph.nodes().len());
}
