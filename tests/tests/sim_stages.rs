//! Several steps in one launch, on the simulator: what they answer against the CPU, and what they say of bad data.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{Backend, Bindings, BufferUse, Precision, WeightSource};
use ggrs_core::error::Fault;
use ggrs_core::ops::{Attention, Gating, GluKind, Rope, RopeMode, RouteExperts, Visibility, Yarn};
use ggrs_core::plan::PlanOptions;
use ggrs_core::{DType, ExecError, Graph, GraphBuilder, Pages, Real, TensorDesc};
use ggrs_sched::{Placement, SchedPlan, SchedRunner};
use ggrs_tests::gpu::simulator;
use ggrs_tests::oracle::dequantize;
use ggrs_tests::placed::{cpu_members, nmse};
use ggrs_tests::random::RandomInputs;

const WARP: u32 = 32;
const N_TOKENS: usize = 3;
/// Width of activations.
const N_EMBD: usize = 256;
const N_EXPERTS: usize = 16;
const N_FF: usize = 64;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const WIDTH: usize = 64;
const BLOCK: usize = 4;
const N_BLOCKS: usize = 2;

/// Norms and rotation of queries and keys, keys and values into a cache of one slot, and attention over it if `attends`.
fn heads(n_tokens: usize, kv: DType, attends: bool) -> Graph {
    let mut b = GraphBuilder::new();
    let mut rows = |name: &str, n| b.input(name, DType::F32, [n_tokens, n, WIDTH]).unwrap();
    let (q, k, v) = (
        rows("q", N_HEADS),
        rows("k", N_KV_HEADS),
        rows("v", N_KV_HEADS),
    );
    let pages = Pages {
        positions: b.input("positions", DType::I32, [n_tokens]).unwrap(),
        slots: b.input("slots", DType::I32, [n_tokens]).unwrap(),
        table: b.input("table", DType::I32, [1, N_BLOCKS]).unwrap(),
    };
    let [q_weight, k_weight] =
        ["q_norm", "k_norm"].map(|name| b.weight(name, DType::F32, [WIDTH]).unwrap());
    let cells = [N_BLOCKS * BLOCK, N_KV_HEADS, WIDTH];
    let [k_cache, v_cache] = ["k_cache", "v_cache"].map(|name| b.state(name, kv, cells).unwrap());
    let rope = Rope {
        mode: RopeMode::Neox,
        n_rot: WIDTH,
        base: Real(10_000.0),
        yarn: Yarn::default(),
        factors: false,
    };
    let q = b.rms_norm(q, Some(q_weight), 1e-6).unwrap();
    let k = b.rms_norm(k, Some(k_weight), 1e-6).unwrap();
    let q = b.rope(rope.clone(), q, pages.positions, None).unwrap();
    let k = b.rope(rope, k, pages.positions, None).unwrap();
    let keys = b.cache_write(k_cache, k, pages, BLOCK).unwrap();
    let values = b.cache_write(v_cache, v, pages, BLOCK).unwrap();
    let answer = if attends {
        let attention = Attention {
            scale: Real(0.125),
            softcap: None,
            visibility: Visibility::Paged {
                block: BLOCK,
                window: None,
            },
            sinks: false,
        };
        let pages = [pages.positions, pages.slots, pages.table];
        b.attention(attention, q, keys, values, &pages).unwrap()
    } else {
        q
    };
    for (name, value) in [("answer", answer), ("keys", keys), ("values", values)] {
        b.output(name, value).unwrap();
    }
    b.seal().unwrap()
}

/// A sum, its norm, and products of several formats that read it.
fn products(n_tokens: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let mut rows = |name: &str| b.input(name, DType::F32, [n_tokens, N_EMBD]).unwrap();
    let (x, other) = (rows("x"), rows("other"));
    let norm = b.weight("norm", DType::F32, [N_EMBD]).unwrap();
    let (sum, normed) = b.add_rms_norm(x, other, norm, 1e-6).unwrap();
    b.output("sum", sum).unwrap();
    let matrices = [
        ("q", DType::Q4_K, 64),
        ("k", DType::Q6_K, 32),
        ("v", DType::F16, 8),
    ];
    for (name, dtype, m) in matrices {
        let weight = b
            .weight(&format!("{name}.weight"), dtype, [m, N_EMBD])
            .unwrap();
        let product = b.matmul(weight, normed).unwrap();
        b.output(name, product).unwrap();
    }
    b.seal().unwrap()
}

/// A mixture of experts.
fn experts(n_tokens: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [n_tokens, N_EMBD]).unwrap();
    let mut weight = |name: &str, dtype, shape: &[usize]| b.weight(name, dtype, shape).unwrap();
    let norm = weight("norm", DType::F32, &[N_EMBD]);
    let router = weight("router", DType::F32, &[N_EXPERTS, N_EMBD]);
    let [gate, up] =
        ["gate", "up"].map(|name| weight(name, DType::Q4_K, &[N_EXPERTS, N_FF, N_EMBD]));
    let down = weight("down", DType::Q8_0, &[N_EXPERTS, N_EMBD, N_FF]);
    let normed = b.rms_norm(x, Some(norm), 1e-6).unwrap();
    let logits = b.matmul(router, normed).unwrap();
    let route = RouteExperts {
        n_used: 4,
        gating: Gating::Softmax,
        normalise: true,
        scale: Real(1.0),
    };
    let (weights, ids) = b.route_experts(route, logits).unwrap();
    let rows = b.reshape(normed, [n_tokens, 1, N_EMBD]).unwrap();
    let hidden = b
        .matmul_id_glu(GluKind::Swiglu, gate, up, rows, ids)
        .unwrap();
    let answers = b.matmul_id(down, hidden, ids).unwrap();
    let weights = b.reshape(weights, [n_tokens, 4, 1]).unwrap();
    let weighted = b.mul(answers, weights).unwrap();
    let sum = b.sum(weighted, 1).unwrap();
    b.output("logits", logits).unwrap();
    b.output("sum", sum).unwrap();
    b.seal().unwrap()
}

/// Products of the same rows, without a norm.
fn same_rows(n_tokens: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [n_tokens, N_EMBD]).unwrap();
    for (name, dtype, m) in [
        ("q", DType::Q4_K, 64),
        ("k", DType::Q5_K, 32),
        ("v", DType::Q6_K, 40),
    ] {
        let weights = b
            .weight(&format!("{name}.weight"), dtype, [m, N_EMBD])
            .unwrap();
        let product = b.matmul(weights, x).unwrap();
        b.output(name, product).unwrap();
    }
    b.seal().unwrap()
}

/// Experts that are chosen already: their answers, weighted and added up.
fn answers(n_tokens: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [n_tokens, 1, N_EMBD]).unwrap();
    let ids = b.input("ids", DType::I32, [n_tokens, 4]).unwrap();
    let weights = b.input("weights", DType::F32, [n_tokens, 4, 1]).unwrap();
    let mut bank = |name: &str, dtype, shape: [usize; 3]| b.weight(name, dtype, shape).unwrap();
    let [gate, up] = ["gate", "up"].map(|name| bank(name, DType::Q4_K, [N_EXPERTS, N_FF, N_EMBD]));
    let down = bank("down", DType::Q8_0, [N_EXPERTS, N_EMBD, N_FF]);
    let hidden = b.matmul_id_glu(GluKind::Swiglu, gate, up, x, ids).unwrap();
    let answers = b.matmul_id(down, hidden, ids).unwrap();
    let weighted = b.mul(answers, weights).unwrap();
    let sum = b.sum(weighted, 1).unwrap();
    b.output("sum", sum).unwrap();
    b.seal().unwrap()
}

fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|i| i.to_le_bytes()).collect()
}

/// What a graph answered: its outputs, of float dtypes; the kernels that its plan names; and the runner.
struct Answer {
    values: Vec<f32>,
    kernels: Vec<String>,
    runner: SchedRunner,
}

/// A run with random weights and inputs and states of zeros.
fn answer(
    graph: &Graph,
    placement: &Placement,
    precision: Precision,
    given: &[(&str, &[i32])],
) -> Result<Answer, Box<dyn Error>> {
    let options = PlanOptions {
        precision,
        ..PlanOptions::default()
    };
    let plan = Arc::new(SchedPlan::new(graph, placement, &options)?);
    let device = &placement.devices[0];
    let mut random = RandomInputs::new(7);
    let mut values =
        |desc: &TensorDesc| random.weights(desc.dtype, desc.shape.elems().unwrap(), 1.0);
    let mut bindings = Bindings::new();
    let part = &plan.parts[0].plan;
    for slot in &part.weights {
        let bytes = &values(&slot.desc);
        let source = WeightSource { bytes, owner: None };
        bindings.insert(&slot.name, device.load_weight(slot, source)?);
    }
    for slot in &part.states {
        bindings.insert(&slot.name, device.alloc(slot.bytes, BufferUse::State)?);
    }
    let mut runner = SchedRunner::new(&placement.devices, &plan, &[bindings], None)?;
    for slot in &part.states {
        let n_bytes = usize::try_from(slot.bytes)?;
        runner.set(&slot.name, &vec![0; n_bytes])?;
    }
    for slot in &part.inputs {
        match given.iter().find(|(name, _)| *name == slot.name) {
            Some((name, values)) => runner.set(name, &ints(values))?,
            None => runner.set(&slot.name, &values(&slot.desc))?,
        }
    }
    runner.run()?;
    let mut all = Vec::new();
    for slot in &part.outputs {
        let bytes = runner.get(&slot.name)?;
        all.extend(dequantize(slot.desc.dtype, &[slot.desc.shape.elems().unwrap()], &bytes).data);
    }
    let kernels = part.steps.iter().map(|s| s.route.kernel.to_string());
    Ok(Answer {
        values: all.iter().map(|x| *x as f32).collect(),
        kernels: kernels.collect(),
        runner,
    })
}

fn simulated() -> Option<Placement> {
    let device = simulator(WARP)?.open(&"cuda:0".parse().unwrap()).unwrap();
    Some(Placement::on(device))
}

/// That a graph runs as one stage of this name, with all steps but the first in it, in so many launches, and answers as
/// the CPU does.
fn check(graph: &Graph, given: &[(&str, &[i32])], (name, launches): (&str, usize), bound: f64) {
    let Some(placement) = simulated() else { return };
    let mut fused = answer(graph, &placement, Precision::Fast, given).unwrap();
    let kernels = &fused.kernels;
    assert_eq!(kernels[0], name);
    assert!(kernels[1..].iter().all(|k| k == "fused"), "{kernels:?}");
    let times = fused.runner.profile().unwrap();
    let n_launches = times.iter().flat_map(|(_, times)| times);
    assert_eq!(n_launches.map(|t| t.n_launches).sum::<usize>(), launches);
    let cpu = Placement::on(cpu_members(1).remove(0));
    let expected = answer(graph, &cpu, Precision::Exact, given).unwrap();
    // Of a token of padding both are zero.
    let nmse = nmse(&fused.values, &expected.values);
    assert!(nmse < bound || fused.values == expected.values, "{nmse:e}");
}

/// The second block first, far positions of it, and a token of padding.
const PAGES: [(&str, &[i32]); 3] = [
    ("positions", &[7, 0, 4]),
    ("slots", &[0, -1, 0]),
    ("table", &[1, 0]),
];

#[test]
fn heads_are_prepared_in_one_launch_as_the_cpu_prepares_them() {
    check(
        &heads(N_TOKENS, DType::F32, false),
        &PAGES,
        ("qk_prep", 1),
        1e-12,
    );
}

#[test]
fn attention_of_one_token_prepares_its_own_heads() {
    // The first of all keys, one in the middle, and the last; then padding, which sees nothing.
    for (position, slot) in [(0, 0), (5, 0), (7, 0), (3, -1)] {
        let pages: [(&str, &[i32]); 3] = [
            ("positions", &[position]),
            ("slots", &[slot]),
            ("table", &[1, 0]),
        ];
        let graph = heads(1, DType::F16, true);
        check(&graph, &pages, ("qk_prep+attention/decode", 1), 1e-6);
    }
}

#[test]
fn products_of_a_norm_are_those_of_the_cpu() {
    // Of one token every block makes the row for itself.
    for (n_tokens, launches) in [(1, 1), (N_TOKENS, 2)] {
        let stage = ("norm_products/q4_k+q6_k+f16", launches);
        check(&products(n_tokens), &[], stage, 1e-4);
    }
}

#[test]
fn the_same_rows_are_converted_once_for_each_order() {
    // Products of Q4_K and Q5_K want one order, that of Q6_K another.
    check(
        &same_rows(37),
        &[],
        ("matmul/gemm, 3 of the same rows", 5),
        1e-5,
    );
}

#[test]
fn experts_are_chosen_where_they_are_multiplied() {
    // Norm with router, gate and up, down; of several tokens the norm alone.
    for (n_tokens, launches) in [(1, 3), (N_TOKENS, 4)] {
        check(
            &experts(n_tokens),
            &[],
            ("experts/q4_k+q8_0", launches),
            4e-4,
        );
    }
}

#[test]
fn answers_of_experts_of_many_tokens_travel_in_16_bits() {
    let n_tokens = 41;
    let ids: Vec<i32> = (0..n_tokens * 4)
        .map(|i| i * 7 % N_EXPERTS as i32)
        .collect();
    // A sort and a product, twice, and the sum.
    let stage = ("matmul_id_glu/gemm+matmul_id/gemm+weighted_sum", 5);
    let graph = answers(n_tokens as usize);
    check(&graph, &[("ids", &ids)], stage, 1e-5);
    let Some(placement) = simulated() else { return };
    let plan = SchedPlan::new(&graph, &placement, &PlanOptions::default()).unwrap();
    let reason = &plan.parts[0].plan.steps[0].route.reason;
    assert!(reason.contains("answers in BF16"), "{reason}");
}

#[test]
fn a_router_over_a_prompt_runs_on_matrix_units_where_plans_are_fast() {
    let Some(placement) = simulated() else { return };
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [70, N_EMBD]).unwrap();
    let router = b.weight("router", DType::F32, [N_EXPERTS, N_EMBD]).unwrap();
    let logits = b.matmul(router, x).unwrap();
    b.output("logits", logits).unwrap();
    let graph = b.seal().unwrap();
    let cpu = Placement::on(cpu_members(1).remove(0));
    let expected = answer(&graph, &cpu, Precision::Exact, &[]).unwrap();
    let kernels = [(Precision::Fast, "tf32"), (Precision::Exact, "f32")];
    for (precision, dtype) in kernels {
        let logits = answer(&graph, &placement, precision, &[]).unwrap();
        assert_eq!(logits.kernels, [format!("matmul/tiles/{dtype}")]);
        let nmse = nmse(&logits.values, &expected.values);
        assert!(nmse < 1e-11, "{nmse:e}");
    }
}

#[test]
fn a_token_that_is_nowhere_is_said_by_the_write() {
    let Some(placement) = simulated() else { return };
    let several = || heads(N_TOKENS, DType::F32, false);
    let one = || heads(1, DType::F16, true);
    let bad: [(_, &str, [&[i32]; 3], _); 6] = [
        (
            several(),
            "positions",
            [&[0, 8, 2], &[0; 3], &[1, 0]],
            (1, 8, 8),
        ),
        (
            several(),
            "slots",
            [&[0, 1, 2], &[0, 0, 1], &[1, 0]],
            (2, 1, 1),
        ),
        (
            several(),
            "page table",
            [&[0, 1, 2], &[0; 3], &[2, 0]],
            (0, 2, 2),
        ),
        (one(), "positions", [&[8], &[0], &[1, 0]], (0, 8, 8)),
        (one(), "slots", [&[1], &[1], &[1, 0]], (0, 1, 1)),
        (one(), "page table", [&[1], &[0], &[2, 0]], (0, 2, 2)),
    ];
    for (graph, role, [positions, slots, table], (row, index, bound)) in bad {
        let pages = [("positions", positions), ("slots", slots), ("table", table)];
        let error = answer(&graph, &placement, Precision::Fast, &pages)
            .err()
            .unwrap();
        let Some(ExecError::Fault { op, fault, .. }) = error.downcast_ref() else {
            unreachable!("{role}: {error}")
        };
        let expected = Fault::IndexOutOfRange {
            role,
            row,
            index,
            bound,
        };
        assert_eq!((*op, fault), ("cache_write", &expected));
    }
}
