//! Kernels through the device's front door: small graphs with results that can be seen by eye, at every instruction-set
//! level, with one thread and several. Numbers at scale are the conformance suite's business.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use ggrs_core::device::{
    Backend, Bindings, BufferUse, Device, DeviceName, Precision, Runner, WeightSource,
};
use ggrs_core::error::{ExecError, Fault};
use ggrs_core::ops::{
    CollectiveKind, Gating, GluInput, GluKind, RouteExperts, SortOrder, UnaryKind,
};
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DType, Graph, GraphBuilder, Pages, Real, Value};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};

/// A graph with its inputs, weights and states as bytes.
struct Case {
    graph: Graph,
    data: Vec<(&'static str, Vec<u8>)>,
}

fn floats(x: impl IntoIterator<Item = f32>) -> Vec<u8> {
    x.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn ints(x: impl IntoIterator<Item = i32>) -> Vec<u8> {
    x.into_iter().flat_map(i32::to_le_bytes).collect()
}

fn as_floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

fn as_ints(bytes: &[u8]) -> Vec<i32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| i32::from_le_bytes(*b))
        .collect()
}

fn devices() -> Vec<Arc<dyn Device>> {
    let name = DeviceName {
        backend: "cpu".into(),
        index: 0,
        members: 1,
    };
    let mut all = Vec::new();
    for isa in Isa::available() {
        for threads in [1, 3] {
            let backend = CpuBackend::new(CpuOptions {
                threads: Some(threads),
                isa,
            });
            all.push(backend.open(&name).unwrap());
        }
    }
    all
}

impl Case {
    /// Runs on a device and gives the outputs in order.
    fn run_on(&self, device: &dyn Device, precision: Precision) -> Result<Vec<Vec<u8>>, ExecError> {
        let options = PlanOptions {
            precision,
            ..PlanOptions::default()
        };
        let plan = Arc::new(plan(&self.graph, device, &options).unwrap());
        let data = |name: &str| &self.data.iter().find(|(n, _)| *n == name).unwrap().1;
        let mut bindings = Bindings::new();
        let mut queue = device.queue().unwrap();
        for w in &plan.weights {
            let source = WeightSource {
                bytes: data(&w.name),
                owner: None,
            };
            let buffer = device.load_weight(w, source).unwrap();
            assert_eq!(&device.read_weight(w, &*buffer).unwrap(), data(&w.name));
            bindings.insert(&w.name, buffer);
        }
        for s in &plan.states {
            let buffer = device.alloc(s.bytes, BufferUse::State).unwrap();
            queue
                .upload(
                    &ggrs_core::device::BufferSlice::whole(Arc::clone(&buffer)),
                    data(&s.name),
                )
                .unwrap();
            bindings.insert(&s.name, buffer);
        }
        let mut runner = Runner::new(device, &plan, &bindings).unwrap();
        for input in &plan.inputs {
            runner.set(&input.name, data(&input.name)).unwrap();
        }
        runner.run()?;
        Ok(plan
            .outputs
            .iter()
            .map(|o| runner.get(&o.name).unwrap())
            .collect())
    }

    /// Runs on every device at both precisions and gives the outputs, which must agree up to 1% of the largest.
    fn run(&self) -> Vec<Vec<u8>> {
        let all = devices();
        let expected = self.run_on(&*all[0], Precision::Exact).unwrap();
        for device in &all {
            for precision in [Precision::Exact, Precision::Fast] {
                let got = self.run_on(&**device, precision).unwrap();
                for (got, expected) in got.iter().zip(&expected) {
                    let (got, expected) = (as_floats(got), as_floats(expected));
                    let largest = expected.iter().fold(1e-3_f32, |m, x| m.max(x.abs()));
                    assert_eq!(got.len(), expected.len());
                    for (a, b) in got.iter().zip(&expected) {
                        let same = a.to_bits() == b.to_bits() || (a - b).abs() <= 0.01 * largest;
                        assert!(
                            same,
                            "{a} and {b} on {} {precision:?}",
                            device.info().features
                        );
                    }
                }
            }
        }
        expected
    }

    fn fault(&self) -> Fault {
        let mut faults = devices()
            .into_iter()
            .map(|d| match self.run_on(&*d, Precision::Fast) {
                Err(ExecError::Fault { fault, .. }) => fault,
                other => panic!("expected a fault, got {other:?}"),
            });
        let first = faults.next().unwrap();
        assert!(faults.all(|f| f == first));
        first
    }
}

/// Builds a case: inputs by name with dtype, shape and data, then the outputs of `build`.
fn case(
    leaves: Vec<(&'static str, DType, Vec<usize>, Vec<u8>)>,
    build: impl FnOnce(&mut GraphBuilder, &[Value]) -> Vec<Value>,
) -> Case {
    let mut g = GraphBuilder::new();
    let values: Vec<Value> = leaves
        .iter()
        .map(|(name, dtype, shape, _)| match name.as_bytes()[0] {
            b'w' => g.weight(name, *dtype, shape.as_slice()).unwrap(),
            b's' => g.state(name, *dtype, shape.as_slice()).unwrap(),
            _ => g.input(name, *dtype, shape.as_slice()).unwrap(),
        })
        .collect();
    for (i, out) in build(&mut g, &values).into_iter().enumerate() {
        g.output(&format!("out{i}"), out).unwrap();
    }
    let data = leaves
        .into_iter()
        .map(|(name, _, _, data)| (name, data))
        .collect();
    Case {
        graph: g.seal().unwrap(),
        data,
    }
}

fn range(n: usize) -> Vec<u8> {
    floats((0..n).map(|i| i as f32))
}

#[test]
fn elementwise_with_broadcast_and_strides() {
    let leaves = vec![
        ("x", DType::F32, vec![2, 3], range(6)),
        ("y", DType::F32, vec![3], floats([10.0, 20.0, 30.0])),
        ("z", DType::F32, vec![2, 1], floats([1.0, 2.0])),
    ];
    let out = case(leaves, |g, v| {
        let t = g.permute(v[0], &[1, 0]).unwrap();
        vec![
            g.add(v[0], v[1]).unwrap(),
            g.mul(v[0], v[2]).unwrap(),
            g.sub(v[0], v[0]).unwrap(),
            g.scale(t, 2.0, 1.0).unwrap(),
            g.clamp(v[0], 1.0, 3.0).unwrap(),
            g.unary(UnaryKind::Sqr, v[0]).unwrap(),
        ]
    })
    .run();
    let out: Vec<Vec<f32>> = out.iter().map(|o| as_floats(o)).collect();
    assert_eq!(out[0], [10.0, 21.0, 32.0, 13.0, 24.0, 35.0]);
    assert_eq!(out[1], [0.0, 1.0, 2.0, 6.0, 8.0, 10.0]);
    assert_eq!(out[2], [0.0; 6]);
    assert_eq!(out[3], [1.0, 7.0, 3.0, 9.0, 5.0, 11.0]);
    assert_eq!(out[4], [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
    assert_eq!(out[5], [0.0, 1.0, 4.0, 9.0, 16.0, 25.0]);
}

#[test]
fn half_precision_operands_are_converted() {
    let bytes: Vec<u8> = [1.0_f32, 2.0, -3.0]
        .iter()
        .flat_map(|x| half::f16::from_f32(*x).to_le_bytes())
        .collect();
    let out = case(
        vec![
            ("x", DType::F16, vec![3], bytes),
            ("y", DType::F32, vec![3], range(3)),
        ],
        |g, v| {
            let sum = g.add(v[0], v[1]).unwrap();
            let gate = g.glu(GluKind::Reglu, v[1], v[1]).unwrap();
            vec![g.cast(sum, DType::F32).unwrap(), gate]
        },
    )
    .run();
    assert_eq!(as_floats(&out[0]), [1.0, 3.0, -1.0]);
    assert_eq!(as_floats(&out[1]), [0.0, 1.0, 4.0]);
}

#[test]
fn movement() {
    let leaves = vec![
        ("x", DType::F32, vec![2, 3], range(6)),
        ("ids", DType::I32, vec![3], ints([1, 0, 1])),
        ("s_dst", DType::F32, vec![3, 3], range(9)),
    ];
    let out = case(leaves, |g, v| {
        let t = g.permute(v[0], &[1, 0]).unwrap();
        let picked = g.get_rows(v[0], v[1]).unwrap();
        let set = g.set_rows(v[2], picked, v[1]).unwrap();
        vec![
            g.contiguous(t).unwrap(),
            g.concat(&[v[0], v[0]], 0).unwrap(),
            g.concat(&[v[0], v[0]], 1).unwrap(),
            picked,
            set,
            g.cast(v[1], DType::I64).unwrap(),
        ]
    })
    .run();
    assert_eq!(as_floats(&out[0]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(
        as_floats(&out[1]),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    );
    assert_eq!(
        as_floats(&out[2]),
        [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]
    );
    assert_eq!(
        as_floats(&out[3]),
        [3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    );
    assert_eq!(
        as_floats(&out[4]),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    );
    assert_eq!(as_ints(&out[5]), [1, 0, 0, 0, 1, 0]);
}

#[test]
fn strided_store_and_cache_write() {
    let leaves = vec![
        ("s_dst", DType::F32, vec![2, 2], floats([0.0; 4])),
        ("x", DType::F32, vec![2, 2], range(4)),
        ("s_cache", DType::F16, vec![6, 2, 1], vec![0; 24]),
        (
            "rows",
            DType::F32,
            vec![3, 2, 1],
            floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ),
        ("positions", DType::I32, vec![3], ints([1, 2, 9])),
        ("slots", DType::I32, vec![3], ints([1, 1, -1])),
        ("table", DType::I32, vec![2, 2], ints([0, 0, 2, 1])),
    ];
    let out = case(leaves, |g, v| {
        let t = g.permute(v[0], &[1, 0]).unwrap();
        let t = g.store(t, v[1]).unwrap();
        let pages = Pages {
            positions: v[4],
            slots: v[5],
            table: v[6],
        };
        let cache = g.cache_write(v[2], v[3], pages, 2).unwrap();
        vec![
            g.permute(t, &[1, 0]).unwrap(),
            g.cast(cache, DType::F32).unwrap(),
        ]
    })
    .run();
    assert_eq!(as_floats(&out[0]), [0.0, 2.0, 1.0, 3.0]);
    // Position 1 is cell 1 of block 2, position 2 is cell 0 of block 1.
    assert_eq!(
        as_floats(&out[1]),
        [0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0]
    );
}

#[test]
fn reductions_and_order() {
    let x = floats([1.0, 5.0, 3.0, 5.0, -1.0, 0.0, 2.0, -7.0]);
    let out = case(vec![("x", DType::F32, vec![2, 4], x)], |g, v| {
        let (values, ids) = g.top_k(v[0], 2).unwrap();
        let router = RouteExperts {
            n_used: 2,
            gating: Gating::Softmax,
            normalise: true,
            scale: Real(2.0),
        };
        let (weights, experts) = g.route_experts(router, v[0]).unwrap();
        vec![
            g.sum(v[0], 0).unwrap(),
            g.mean(v[0], 1).unwrap(),
            g.cumsum(v[0]).unwrap(),
            values,
            ids,
            g.argsort(v[0], SortOrder::Ascending).unwrap(),
            g.argmax(v[0]).unwrap(),
            weights,
            experts,
            g.collective(CollectiveKind::AllReduce, 1, v[0]).unwrap(),
        ]
    })
    .run();
    assert_eq!(as_floats(&out[0]), [0.0, 5.0, 5.0, -2.0]);
    assert_eq!(as_floats(&out[1]), [3.5, -1.5]);
    assert_eq!(
        as_floats(&out[2]),
        [1.0, 6.0, 9.0, 14.0, -1.0, -1.0, 1.0, -6.0]
    );
    assert_eq!(as_floats(&out[3]), [5.0, 5.0, 2.0, 0.0]);
    assert_eq!(as_ints(&out[4]), [1, 3, 2, 1]);
    assert_eq!(as_ints(&out[5]), [0, 2, 1, 3, 3, 0, 1, 2]);
    assert_eq!(as_ints(&out[6]), [1, 2]);
    let weights = as_floats(&out[7]);
    assert!(
        (weights[0] - 1.0).abs() < 1e-6 && (weights[2] / weights[3] - 2.0_f32.exp()).abs() < 1e-4,
        "{weights:?}"
    );
    assert_eq!(as_ints(&out[8]), [1, 3, 2, 1]);
    assert_eq!(as_floats(&out[9]).len(), 8);
}

#[test]
fn bad_data_is_a_fault_with_its_row() {
    let table = ("x", DType::F32, vec![2, 3], range(6));
    let rows = case(
        vec![table.clone(), ("ids", DType::I32, vec![2], ints([0, 2]))],
        |g, v| vec![g.get_rows(v[0], v[1]).unwrap()],
    );
    assert_eq!(
        rows.fault(),
        Fault::IndexOutOfRange {
            role: "ids",
            row: 1,
            index: 2,
            bound: 2
        }
    );
    let nan = floats([0.0, 1.0, f32::NAN, 2.0]);
    let nan = case(vec![("x", DType::F32, vec![2, 2], nan)], |g, v| {
        vec![g.argmax(v[0]).unwrap()]
    });
    assert_eq!(nan.fault(), Fault::NotANumber { role: "x", row: 1 });
    let experts = vec![
        ("w", DType::F32, vec![2, 2, 2], range(8)),
        ("x", DType::F32, vec![1, 1, 2], range(2)),
        ("ids", DType::I32, vec![1, 1], ints([-1])),
    ];
    let experts = case(experts, |g, v| vec![g.matmul_id(v[0], v[1], v[2]).unwrap()]);
    assert_eq!(
        experts.fault(),
        Fault::IndexOutOfRange {
            role: "expert ids",
            row: 0,
            index: -1,
            bound: 2
        }
    );
}

/// Values that Q8_0 keeps nearly as they are.
fn wave(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|i| (((i * 7 + seed * 13) % 101) as f32 - 50.0) / 50.0)
        .collect()
}

fn q8_0(x: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; DType::Q8_0.row_bytes(x.len()).unwrap()];
    ggrs_cpu::formats::quantize_row(DType::Q8_0, x, &mut bytes).unwrap();
    bytes
}

fn product(w: &[f32], x: &[f32], k: usize) -> Vec<f32> {
    let dot = |w: &[f32], x: &[f32]| {
        w.iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum::<f64>() as f32
    };
    x.chunks(k)
        .flat_map(|x| w.chunks(k).map(move |w| dot(w, x)))
        .collect()
}

fn assert_near(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(1e-3_f32, |m, x| m.max(x.abs()));
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * largest, "{a} is not {b}");
    }
}

#[test]
fn products_of_one_and_many_activations() {
    let (m, k) = (70, 64);
    for n in [1, 2, 5, 150] {
        for dtype in [DType::F32, DType::Q8_0] {
            let (w, up, x) = (wave(m * k, 1), wave(m * k, 2), wave(n * k, 3));
            let bytes = |w: &[f32]| {
                if dtype == DType::F32 {
                    floats(w.iter().copied())
                } else {
                    q8_0(w)
                }
            };
            let leaves = vec![
                ("w", dtype, vec![m, k], bytes(&w)),
                ("w_up", dtype, vec![m, k], bytes(&up)),
                ("x", DType::F32, vec![n, k], floats(x.iter().copied())),
            ];
            let out = case(leaves, |g, v| {
                vec![
                    g.matmul(v[0], v[2]).unwrap(),
                    g.matmul_glu(GluKind::Reglu, v[0], v[1], v[2]).unwrap(),
                ]
            })
            .run();
            let (gate, up) = (product(&w, &x, k), product(&up, &x, k));
            let tolerance = if dtype == DType::F32 { 1e-5 } else { 0.01 };
            assert_near(&as_floats(&out[0]), &gate, tolerance);
            let glu: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| g.max(0.0) * u).collect();
            assert_near(&as_floats(&out[1]), &glu, 2.0 * tolerance);
        }
    }
}

#[test]
fn grouped_batches_share_weights() {
    let (m, n, k) = (3, 2, 4);
    let (w, x) = (wave(2 * m * k, 1), wave(4 * n * k, 2));
    let leaves = vec![
        ("x_w", DType::F32, vec![2, m, k], floats(w.iter().copied())),
        ("x", DType::F32, vec![4, n, k], floats(x.iter().copied())),
    ];
    let out = case(leaves, |g, v| vec![g.matmul(v[0], v[1]).unwrap()]).run();
    let batch = |b: usize| product(&w[b / 2 * m * k..][..m * k], &x[b * n * k..][..n * k], k);
    let expected: Vec<f32> = (0..4).flat_map(batch).collect();
    assert_near(&as_floats(&out[0]), &expected, 1e-6);
}

#[test]
fn experts_of_few_and_many_tokens() {
    let (n_experts, n_used, m, k) = (5, 2, 40, 32);
    for n_tokens in [1, 2, 7, 300] {
        for per_token in [1, n_used] {
            let (w, up, x) = (
                wave(n_experts * m * k, 1),
                wave(n_experts * m * k, 2),
                wave(n_tokens * per_token * k, 3),
            );
            let ids: Vec<i32> = (0..n_tokens * n_used)
                .map(|i| (i * i % n_experts) as i32)
                .collect();
            let leaves = vec![
                ("w", DType::Q8_0, vec![n_experts, m, k], q8_0(&w)),
                ("w_up", DType::Q8_0, vec![n_experts, m, k], q8_0(&up)),
                (
                    "x",
                    DType::F32,
                    vec![n_tokens, per_token, k],
                    floats(x.iter().copied()),
                ),
                (
                    "ids",
                    DType::I32,
                    vec![n_tokens, n_used],
                    ints(ids.iter().copied()),
                ),
            ];
            let out = case(leaves, |g, v| {
                vec![
                    g.matmul_id(v[0], v[2], v[3]).unwrap(),
                    g.matmul_id_glu(GluKind::Reglu, v[0], v[1], v[2], v[3])
                        .unwrap(),
                ]
            })
            .run();
            let pairs = |w: &[f32]| -> Vec<f32> {
                let rows = ids.iter().enumerate().flat_map(|(pair, e)| {
                    let row = pair / n_used * per_token + (pair % n_used).min(per_token - 1);
                    product(&w[*e as usize * m * k..][..m * k], &x[row * k..][..k], k)
                });
                rows.collect()
            };
            let (gate, up) = (pairs(&w), pairs(&up));
            assert_near(&as_floats(&out[0]), &gate, 0.01);
            let glu: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| g.max(0.0) * u).collect();
            assert_near(&as_floats(&out[1]), &glu, 0.02);
        }
    }
}

#[test]
fn rows_of_a_packed_table_are_found() {
    let (rows, k) = (37, 32);
    let table = wave(rows * k, 5);
    let leaves = vec![
        ("w", DType::Q8_0, vec![rows, k], q8_0(&table)),
        ("ids", DType::I32, vec![3], ints([36, 0, 17])),
    ];
    let out = case(leaves, |g, v| {
        let x = g.get_rows(v[0], v[1]).unwrap();
        vec![x, g.matmul(v[0], x).unwrap()]
    })
    .run();
    let picked: Vec<f32> = [36, 0, 17]
        .iter()
        .flat_map(|r| table[r * k..][..k].to_vec())
        .collect();
    assert_near(&as_floats(&out[0]), &picked, 0.01);
}

#[test]
fn empty_tensors_run() {
    let leaves = vec![
        ("x", DType::F32, vec![0, 3], vec![]),
        ("w", DType::F32, vec![4, 3], range(12)),
        ("e", DType::F32, vec![2, 0], vec![]),
        ("w_e", DType::F32, vec![4, 0], vec![]),
    ];
    let out = case(leaves, |g, v| {
        vec![
            g.matmul(v[1], v[0]).unwrap(),
            g.add(v[0], v[0]).unwrap(),
            g.sum(v[0], 0).unwrap(),
            g.glu_fused(GluKind::Swiglu, GluInput::GateUp, v[2])
                .unwrap(),
            g.matmul(v[3], v[2]).unwrap(),
            g.cumsum(v[2]).unwrap(),
            g.concat(&[v[0], v[0]], 0).unwrap(),
        ]
    })
    .run();
    assert_eq!(as_floats(&out[2]), [0.0; 3]);
    assert_eq!(as_floats(&out[4]), [0.0; 8]);
}
