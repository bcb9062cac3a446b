//! The graph under test and what it must compute, and devices to run it on.

use std::sync::Arc;

use ggrs_core::device::{Backend, Bindings, Device, Precision, WeightSource};
use ggrs_core::ops::GluKind;
use ggrs_core::plan::{Plan, PlanOptions, plan};
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Role, Value};
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_meta::{MetaDevice, MetaOptions};

pub(crate) const T: usize = 5;
pub(crate) const K: usize = 64;
pub(crate) const H: usize = 192;
pub(crate) const VOCABULARY: usize = 24;
pub(crate) const CELLS: usize = 8;

/// Ratios of one to five members, even, uneven and empty.
pub(crate) const RATIOS: [&[f64]; 8] = [
    &[1.0],
    &[1.0, 1.0],
    &[3.0, 1.0],
    &[1.0, 0.0],
    &[0.0, 1.0],
    &[1.0, 1.0, 1.0],
    &[2.0, 0.0, 1.0, 1.0],
    &[1.0, 1.0, 1.0, 1.0, 1.0],
];

pub(crate) fn cpu(name: &str) -> Arc<dyn Device> {
    let options = CpuOptions {
        threads: Some(1),
        ..CpuOptions::default()
    };
    let backend = CpuBackend::new(options);
    backend.open(&name.parse().unwrap()).unwrap()
}

pub(crate) fn members(n: usize) -> Vec<Arc<dyn Device>> {
    (0..n).map(|i| cpu(&format!("cpu:{i}/{n}"))).collect()
}

pub(crate) fn options(ratios: &[f64]) -> MetaOptions {
    MetaOptions {
        ratios: ratios.to_vec(),
        ..MetaOptions::default()
    }
}

pub(crate) fn meta(ratios: &[f64]) -> Arc<MetaDevice> {
    MetaDevice::new(members(ratios.len()), options(ratios)).unwrap()
}

fn linked(g: &mut GraphBuilder, leaf: Value, link: Link) -> Value {
    let role = Role {
        links: [link].into_iter().collect(),
        ..Role::default()
    };
    g.describe(leaf, role).unwrap();
    leaf
}

/// `y = x + down (silu(gate x) * up x)`, `logits = head y`, and a cache whose rows 1.. become `keys x`.
pub(crate) fn mlp(dtype: DType) -> Graph {
    let mut g = GraphBuilder::new();
    let width = |axis| Link::new("width", Cut::Width, H, axis, 1);
    let heads = |axis| Link::new("heads", Cut::Heads, 4, axis, K / 4);
    let rows = Link::new("vocabulary", Cut::Vocabulary, VOCABULARY, 0, 1);
    let x = g.input("x", DType::F32, [T, K]).unwrap();
    let mut weight = |name, shape: [usize; 2], link| {
        let leaf = g.weight(name, dtype, shape).unwrap();
        linked(&mut g, leaf, link)
    };
    let gate = weight("gate", [H, K], width(0));
    let up = weight("up", [H, K], width(0));
    let down = weight("down", [K, H], width(1));
    let head = weight("head", [VOCABULARY, K], rows);
    let keys = weight("keys", [K, K], heads(0));
    let cache = g.state("cache", DType::F32, [CELLS, K]).unwrap();
    let cache = linked(&mut g, cache, heads(1));

    let a = g.matmul(gate, x).unwrap();
    let b = g.matmul(up, x).unwrap();
    let h = g.glu(GluKind::Swiglu, a, b).unwrap();
    let y = g.matmul(down, h).unwrap();
    let y = g.add(x, y).unwrap();
    let logits = g.matmul(head, y).unwrap();
    let k = g.matmul(keys, x).unwrap();
    let rows = g.slice(cache, 0, 1, T).unwrap();
    let stored = g.store(rows, k).unwrap();
    g.output("y", y).unwrap();
    g.output("logits", logits).unwrap();
    g.output("stored", stored).unwrap();
    g.seal().unwrap()
}

/// Numbers between -0.5 and 0.5 that look random.
pub(crate) fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 65536.0 - 0.5
    };
    std::iter::repeat_with(next).take(n).collect()
}

pub(crate) fn to_bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub(crate) fn to_floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The bytes of a weight: numbers as F32, or any bytes whose scales are finite in a block format.
pub(crate) fn weight_bytes(plan: &Plan, name: &str) -> Vec<u8> {
    let desc = &plan.weight(name).unwrap().desc;
    let seed = name.bytes().map(u32::from).sum();
    if desc.dtype == DType::F32 {
        return to_bytes(&numbers(desc.shape.elems().unwrap(), seed));
    }
    let random = numbers(desc.bytes().unwrap(), seed);
    let mut bytes: Vec<u8> = random
        .iter()
        .map(|x| (x * 200.0).to_le_bytes()[2])
        .collect();
    for block in bytes.chunks_exact_mut(desc.dtype.block_bytes()) {
        // A small F16 scale.
        (block[0], block[1]) = (block[0], 0x20);
    }
    bytes
}

pub(crate) fn planned(device: &dyn Device, graph: &Graph, precision: Precision) -> Arc<Plan> {
    let options = PlanOptions {
        precision,
        ..PlanOptions::default()
    };
    Arc::new(plan(graph, device, &options).unwrap())
}

/// Loads every weight and allocates every state.
pub(crate) fn bound(device: &dyn Device, plan: &Plan) -> Bindings {
    let mut bindings = Bindings::new();
    for slot in &plan.weights {
        let bytes = weight_bytes(plan, &slot.name);
        let source = WeightSource {
            bytes: &bytes,
            owner: None,
        };
        bindings.insert(&*slot.name, device.load_weight(slot, source).unwrap());
    }
    for slot in &plan.states {
        bindings.insert(&*slot.name, device.alloc_state(slot).unwrap());
    }
    bindings
}

/// `w x` for every row of x.
fn product(w: &[f64], x: &[f64], k: usize) -> Vec<f64> {
    let dot = |(w, x): (&[f64], &[f64])| w.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
    let rows = x.chunks_exact(k);
    rows.flat_map(|x| w.chunks_exact(k).map(move |w| dot((w, x))))
        .collect()
}

/// The outputs y, logits and stored for F32 weights, in f64.
pub(crate) fn expected(plan: &Plan, x: &[f32]) -> [Vec<f64>; 3] {
    let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<f64>>();
    let weight = |name| wide(to_floats(&weight_bytes(plan, name)));
    let x = wide(x.to_vec());
    let (a, b) = (
        product(&weight("gate"), &x, K),
        product(&weight("up"), &x, K),
    );
    let h: Vec<f64> = a
        .iter()
        .zip(&b)
        .map(|(a, b)| a / (1.0 + (-a).exp()) * b)
        .collect();
    let y = product(&weight("down"), &h, H);
    let y: Vec<f64> = y.iter().zip(&x).map(|(y, x)| y + x).collect();
    let logits = product(&weight("head"), &y, K);
    [y, logits, product(&weight("keys"), &x, K)]
}

pub(crate) fn assert_close(got: &[u8], expected: &[f64], what: &str) {
    let got = to_floats(got);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*g) - e).abs() < 1e-4,
            "{what}[{i}]: {g} instead of {e}"
        );
    }
}
