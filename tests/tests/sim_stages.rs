//! Several steps in one launch, on the simulator: what they answer against the CPU, and what they say of bad data.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{Backend, Bindings, BufferUse, Precision, WeightSource};
use ggrs_core::error::Fault;
use ggrs_core::ops::{Rope, RopeMode, Yarn};
use ggrs_core::plan::PlanOptions;
use ggrs_core::{DType, ExecError, Graph, GraphBuilder, Pages, Real};
use ggrs_sched::{Placement, SchedPlan, SchedRunner};
use ggrs_tests::gpu::simulator;
use ggrs_tests::placed::{cpu_members, nmse};
use ggrs_tests::random::RandomInputs;

const WARP: u32 = 32;
const N_TOKENS: usize = 3;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const WIDTH: usize = 64;
const BLOCK: usize = 4;
const N_BLOCKS: usize = 2;

/// Norms and rotation of queries and keys, keys and values into a cache of one slot.
fn heads() -> Graph {
    let mut b = GraphBuilder::new();
    let mut rows = |name: &str, n| b.input(name, DType::F32, [N_TOKENS, n, WIDTH]).unwrap();
    let (q, k, v) = (
        rows("q", N_HEADS),
        rows("k", N_KV_HEADS),
        rows("v", N_KV_HEADS),
    );
    let pages = Pages {
        positions: b.input("positions", DType::I32, [N_TOKENS]).unwrap(),
        slots: b.input("slots", DType::I32, [N_TOKENS]).unwrap(),
        table: b.input("table", DType::I32, [1, N_BLOCKS]).unwrap(),
    };
    let [q_weight, k_weight] =
        ["q_norm", "k_norm"].map(|name| b.weight(name, DType::F32, [WIDTH]).unwrap());
    let cells = [N_BLOCKS * BLOCK, N_KV_HEADS, WIDTH];
    let [k_cache, v_cache] =
        ["k_cache", "v_cache"].map(|name| b.state(name, DType::F32, cells).unwrap());
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
    for (name, value) in [("queries", q), ("keys", keys), ("values", values)] {
        b.output(name, value).unwrap();
    }
    b.seal().unwrap()
}

fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|i| i.to_le_bytes()).collect()
}

/// Queries, then both caches, which were zero; and the kernels that ran.
fn answer(
    placement: &Placement,
    precision: Precision,
    [positions, slots, table]: [&[i32]; 3],
) -> Result<(Vec<f32>, Vec<String>), Box<dyn Error>> {
    let options = PlanOptions {
        precision,
        ..PlanOptions::default()
    };
    let plan = Arc::new(SchedPlan::new(&heads(), placement, &options)?);
    let device = &placement.devices[0];
    let mut random = RandomInputs::new(7);
    let mut floats = |n| random.weights(DType::F32, n, 1.0);
    let mut bindings = Bindings::new();
    let part = &plan.parts[0].plan;
    for slot in &part.weights {
        let bytes = &floats(WIDTH);
        let source = WeightSource { bytes, owner: None };
        bindings.insert(&slot.name, device.load_weight(slot, source)?);
    }
    for slot in &part.states {
        bindings.insert(&slot.name, device.alloc(slot.bytes, BufferUse::State)?);
    }
    let mut runner = SchedRunner::new(&placement.devices, &plan, &[bindings], None)?;
    for state in ["k_cache", "v_cache"] {
        runner.set(state, &[0; 4 * N_BLOCKS * BLOCK * N_KV_HEADS * WIDTH])?;
    }
    for (name, n) in [("q", N_HEADS), ("k", N_KV_HEADS), ("v", N_KV_HEADS)] {
        runner.set(name, &floats(N_TOKENS * n * WIDTH))?;
    }
    for (name, values) in [("positions", positions), ("slots", slots), ("table", table)] {
        runner.set(name, &ints(values))?;
    }
    runner.run()?;
    let mut all = Vec::new();
    for name in ["queries", "keys", "values"] {
        let bytes = runner.get(name)?;
        let (words, _) = bytes.as_chunks::<4>();
        all.extend(words.iter().map(|w| f32::from_le_bytes(*w)));
    }
    let kernels = part.steps.iter().map(|s| s.route.kernel.to_string());
    Ok((all, kernels.collect()))
}

fn simulated() -> Option<Placement> {
    let device = simulator(WARP)?.open(&"cuda:0".parse().unwrap()).unwrap();
    Some(Placement::on(device))
}

#[test]
fn heads_are_prepared_in_one_launch_as_the_cpu_prepares_them() {
    let Some(placement) = simulated() else { return };
    // The second block first, far positions of it, and a token of padding.
    let pages: [&[i32]; 3] = [&[7, 0, 4], &[0, -1, 0], &[1, 0]];
    let (fused, kernels) = answer(&placement, Precision::Fast, pages).unwrap();
    assert_eq!(
        kernels,
        ["qk_prep", "fused", "fused", "fused", "fused", "fused"]
    );
    let cpu = Placement::on(cpu_members(1).remove(0));
    let (expected, _) = answer(&cpu, Precision::Exact, pages).unwrap();
    assert!(nmse(&fused, &expected) < 1e-12);
}

#[test]
fn a_token_that_is_nowhere_is_said_by_the_write() {
    let Some(placement) = simulated() else { return };
    let good: [&[i32]; 3] = [&[0, 1, 2], &[0, 0, 0], &[1, 0]];
    let bad = [
        ("positions", 0, [0, 8, 2].as_slice(), (1, 8, 8)),
        ("slots", 1, &[0, 0, 1], (2, 1, 1)),
        ("page table", 2, &[2, 0], (0, 2, 2)),
    ];
    for (role, which, values, (row, index, bound)) in bad {
        let mut pages = good;
        pages[which] = values;
        let error = answer(&placement, Precision::Fast, pages).unwrap_err();
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
