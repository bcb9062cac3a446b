//! The device itself: opening, memory, buffers, capture, threads and members. Kernels are tested elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::any::Any;
use std::sync::Arc;

use ggrs_core::device::{
    Backend, Bindings, Buffer, BufferSlice, BufferUse, CaptureState, Device, Precision, Registry,
    Runner, WeightForm, WeightSource,
};
use ggrs_core::error::Fault;
use ggrs_core::plan::{Plan, PlanOptions, plan};
use ggrs_core::{BindError, DType, DeviceError, ExecError, Graph, GraphBuilder};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};

fn backend(threads: usize) -> CpuBackend {
    CpuBackend::new(CpuOptions {
        threads: Some(threads),
        isa: Isa::best(),
    })
}

fn open(threads: usize) -> Arc<dyn Device> {
    backend(threads).open(&"cpu".parse().unwrap()).unwrap()
}

fn floats(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn as_floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

/// `y = w x`, and a state that adds up x.
fn counter() -> Graph {
    let mut g = GraphBuilder::new();
    let w = g.weight("w", DType::F32, [3, 4]).unwrap();
    let x = g.input("x", DType::F32, [1, 4]).unwrap();
    let state = g.state("sum", DType::F32, [1, 4]).unwrap();
    let next = g.add(state, x).unwrap();
    let stored = g.store(state, next).unwrap();
    let y = g.matmul(w, x).unwrap();
    g.output("y", y).unwrap();
    g.output("total", stored).unwrap();
    g.seal().unwrap()
}

struct Bound {
    plan: Arc<Plan>,
    bindings: Bindings,
    state: Arc<dyn Buffer>,
    weight: Arc<dyn Buffer>,
}

fn bind(device: &dyn Device) -> Bound {
    let plan = Arc::new(plan(&counter(), device, &PlanOptions::default()).unwrap());
    let mut bindings = Bindings::new();
    let bytes = floats(&[1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    let weight = device
        .load_weight(
            &plan.weights[0],
            WeightSource {
                bytes: &bytes,
                owner: None,
            },
        )
        .unwrap();
    let state = device
        .alloc(plan.states[0].bytes, BufferUse::State)
        .unwrap();
    bindings.insert("w", Arc::clone(&weight));
    bindings.insert("sum", Arc::clone(&state));
    Bound {
        plan,
        bindings,
        state,
        weight,
    }
}

#[test]
fn a_run_gives_the_same_with_any_number_of_threads() {
    for threads in [1, 2, 3, 8] {
        let device = open(threads);
        let bound = bind(&*device);
        let mut runner = Runner::new(&*device, &bound.plan, &bound.bindings).unwrap();
        runner.set("x", &floats(&[1.0, 2.0, 3.0, 4.0])).unwrap();
        for run in 1..=3 {
            runner.run().unwrap();
            let n = run as f32;
            assert_eq!(as_floats(&runner.get("y").unwrap()), [1.0, 4.0, 10.0]);
            assert_eq!(
                as_floats(&runner.get("total").unwrap()),
                [n, 2.0 * n, 3.0 * n, 4.0 * n]
            );
        }
    }
}

#[test]
fn captured_runs_equal_eager_ones() {
    let device = open(2);
    let bound = bind(&*device);
    let mut runner = Runner::new(&*device, &bound.plan, &bound.bindings).unwrap();
    let mut seen = Vec::new();
    for step in 0..6 {
        match step {
            2 => runner.executable().capture().unwrap(),
            5 => runner.executable().release_capture(),
            _ => (),
        }
        runner
            .set("x", &floats(&[step as f32, 1.0, 0.5, -1.0]))
            .unwrap();
        runner.run().unwrap();
        seen.push((
            runner.executable().capture_state(),
            as_floats(&runner.get("y").unwrap()),
        ));
    }
    let states: Vec<CaptureState> = seen.iter().map(|s| s.0).collect();
    use CaptureState::{Captured, Eager};
    assert_eq!(states, [Eager, Eager, Captured, Captured, Captured, Eager]);
    for (step, (_, y)) in seen.iter().enumerate() {
        assert_eq!(y, &[step as f32, 2.0, step as f32 + 0.5]);
    }
    assert_eq!(
        as_floats(&runner.get("total").unwrap()),
        [15.0, 6.0, 3.0, -6.0]
    );
}

#[test]
fn a_released_buffer_ends_the_executables_bound_to_it() {
    for captured in [false, true] {
        for (name, of) in [("sum", 0), ("w", 1)] {
            let device = open(2);
            let bound = bind(&*device);
            let mut runner = Runner::new(&*device, &bound.plan, &bound.bindings).unwrap();
            runner.set("x", &floats(&[0.0; 4])).unwrap();
            if captured {
                runner.executable().capture().unwrap();
            }
            runner.run().unwrap();
            [&bound.state, &bound.weight][of].generation().release();
            assert_eq!(
                runner.run(),
                Err(ExecError::StaleBinding {
                    name: name.to_owned()
                })
            );
            // Bound anew, it runs.
            let mut runner = Runner::new(&*device, &bound.plan, &bound.bindings).unwrap();
            runner.set("x", &floats(&[0.0; 4])).unwrap();
            runner.run().unwrap();
        }
    }
}

#[test]
fn memory_that_is_not_there_is_an_error_and_nothing_else() {
    let device = open(1);
    let total = device.memory().total;
    for bytes in [total.saturating_mul(2), u64::MAX / 2, u64::MAX] {
        match device.alloc(bytes, BufferUse::State) {
            Err(DeviceError::OutOfMemory {
                device,
                requested,
                free,
                ..
            }) => {
                assert_eq!((device.as_str(), requested), ("cpu:0", bytes));
                assert!(free > 0 && free <= total);
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{bytes} bytes of {total}"),
        }
    }
    assert!(device.alloc(1000, BufferUse::State).is_ok());
}

#[test]
fn memory_held_is_counted_until_it_is_dropped() {
    let device = open(1);
    assert_eq!(device.memory().held, 0);
    let large = device.alloc(5 << 20, BufferUse::State).unwrap();
    let small = device.alloc(100, BufferUse::Arena).unwrap();
    assert_eq!(device.memory().held, (5 << 20) + 100);
    drop(large);
    assert_eq!((device.memory().held, small.bytes()), (100, 100));
    drop(small);
    assert_eq!(device.memory().held, 0);
}

#[test]
fn fresh_memory_is_zero_and_transfers_stay_inside() {
    let device = open(1);
    let mut queue = device.queue().unwrap();
    for bytes in [0, 300, 3 << 20] {
        let buffer = device.alloc(bytes, BufferUse::State).unwrap();
        let whole = BufferSlice::whole(buffer);
        let mut data = vec![1; bytes as usize];
        queue.download(&whole, &mut data).unwrap();
        assert!(data.iter().all(|b| *b == 0));
    }
    let whole = BufferSlice::whole(device.alloc(8, BufferUse::State).unwrap());
    queue.upload(&whole, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    queue.fill(&whole.range("cpu", 6, 2).unwrap(), 9).unwrap();
    // An overlapping copy.
    queue
        .copy(
            &whole.range("cpu", 0, 4).unwrap(),
            &whole.range("cpu", 2, 4).unwrap(),
        )
        .unwrap();
    let mut data = [0; 8];
    queue.download(&whole, &mut data).unwrap();
    assert_eq!(data, [1, 2, 1, 2, 3, 4, 9, 9]);
    assert!(matches!(
        queue.upload(&whole, &[0; 9]),
        Err(DeviceError::Range {
            end: 9,
            size: 8,
            ..
        })
    ));
    assert!(queue.download(&whole, &mut [0; 9]).is_err());
    let outside = BufferSlice {
        offset: 4,
        ..whole.clone()
    };
    assert!(matches!(
        queue.upload(&outside, &[0; 8]),
        Err(DeviceError::Range { .. })
    ));
}

#[test]
fn a_buffer_of_another_device_is_refused() {
    let (one, other) = (open(1), open(1));
    let foreign = BufferSlice::whole(other.alloc(8, BufferUse::State).unwrap());
    let refused = one.queue().unwrap().upload(&foreign, &[0; 8]);
    assert!(
        matches!(refused, Err(DeviceError::ForeignBuffer { .. })),
        "{refused:?}"
    );
    let bound = bind(&*other);
    let compiled = one.compile(&bound.plan, &bound.bindings);
    assert!(matches!(
        compiled.err(),
        Some(BindError::Device(DeviceError::ForeignBuffer { .. }))
    ));
}

#[test]
fn mapped_weights_are_not_copied_and_not_written() {
    #[repr(align(64))]
    struct Page([u8; 48]);
    let device = open(1);
    let bound = bind(&*device);
    let slot = ggrs_core::plan::WeightSlot {
        form: WeightForm::Native,
        ..bound.plan.weights[0].clone()
    };
    let page = Arc::new(Page([3; 48]));
    let before = device.memory().held;
    let owner: Arc<dyn Any + Send + Sync> = Arc::<Page>::clone(&page);
    let buffer = device
        .load_weight(
            &slot,
            WeightSource {
                bytes: &page.0,
                owner: Some(owner),
            },
        )
        .unwrap();
    assert_eq!(
        (device.memory().held, Arc::strong_count(&page)),
        (before, 2)
    );
    assert_eq!(device.read_weight(&slot, &*buffer).unwrap(), [3; 48]);
    let refused = device
        .queue()
        .unwrap()
        .fill(&BufferSlice::whole(Arc::clone(&buffer)), 0);
    assert!(refused.is_err());
    drop(buffer);
    assert_eq!(Arc::strong_count(&page), 1);
    // Bytes of the wrong length.
    let short = device.load_weight(
        &slot,
        WeightSource {
            bytes: &page.0[..40],
            owner: None,
        },
    );
    assert!(matches!(
        short.err(),
        Some(DeviceError::WeightBytes {
            expected: 48,
            got: 40,
            ..
        })
    ));
}

#[test]
fn weights_are_packed_for_fast_products_and_come_back_bit_for_bit() {
    let (m, k) = (40, 512);
    let mut g = GraphBuilder::new();
    let x = g.input("x", DType::F32, [1, k]).unwrap();
    let mut dtypes = Vec::new();
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_int()) {
        let w = g.weight(dtype.name(), dtype, [2, m, k]).unwrap();
        let x = g.reshape(x, [1, 1, k]).unwrap();
        let x = g.broadcast(x, [2, 1, k]).unwrap();
        let x = g.contiguous(x).unwrap();
        let y = g.matmul(w, x).unwrap();
        g.output(&format!("y_{dtype}"), y).unwrap();
        dtypes.push(dtype);
    }
    let graph = g.seal().unwrap();
    let device = open(3);
    for precision in [Precision::Fast, Precision::Exact] {
        let plan = plan(
            &graph,
            &*device,
            &PlanOptions {
                precision,
                ..PlanOptions::default()
            },
        )
        .unwrap();
        assert_eq!(plan.weights.len(), dtypes.len());
        for slot in &plan.weights {
            assert_eq!(
                slot.form == WeightForm::Native,
                precision == Precision::Exact,
                "{}",
                slot.name
            );
            let n_bytes = slot.desc.bytes().unwrap();
            let bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 31 % 251) as u8).collect();
            let buffer = device
                .load_weight(
                    slot,
                    WeightSource {
                        bytes: &bytes,
                        owner: None,
                    },
                )
                .unwrap();
            assert_eq!(buffer.form(), slot.form);
            assert_eq!(
                device.read_weight(slot, &*buffer).unwrap(),
                bytes,
                "{}",
                slot.name
            );
        }
    }
}

#[test]
fn a_fault_names_its_step_and_the_next_run_works() {
    let mut g = GraphBuilder::new();
    let x = g.input("x", DType::F32, [4, 2]).unwrap();
    let ids = g.input("ids", DType::I32, [1]).unwrap();
    let doubled = g.scale(x, 2.0, 0.0).unwrap();
    g.scope("lookup");
    let rows = g.get_rows(doubled, ids).unwrap();
    g.output("rows", rows).unwrap();
    let graph = g.seal().unwrap();
    for threads in [1, 2, 3] {
        let device = open(threads);
        let plan = Arc::new(plan(&graph, &*device, &PlanOptions::default()).unwrap());
        let mut runner = Runner::new(&*device, &plan, &Bindings::new()).unwrap();
        runner
            .set("x", &floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
            .unwrap();
        runner.set("ids", &4_i32.to_le_bytes()).unwrap();
        match runner.run() {
            Err(ExecError::Fault {
                step: 1,
                node,
                op: "get_rows",
                fault,
                ..
            }) => {
                assert_eq!(node, "lookup.get_rows");
                assert_eq!(
                    fault,
                    Fault::IndexOutOfRange {
                        role: "ids",
                        row: 0,
                        index: 4,
                        bound: 4
                    }
                );
            }
            other => panic!("{other:?}"),
        }
        runner.set("ids", &3_i32.to_le_bytes()).unwrap();
        runner.run().unwrap();
        assert_eq!(as_floats(&runner.get("rows").unwrap()), [12.0, 14.0]);
    }
}

#[test]
fn members_share_the_threads() {
    let registry = Registry::with([Box::new(backend(5)) as Box<dyn Backend>]);
    for (name, threads) in [
        ("cpu", "5 threads"),
        ("cpu:0/2", "3 threads"),
        ("cpu:1/2", "2 threads"),
        ("cpu:6/8", "1 thread"),
    ] {
        let device = registry.open(name).unwrap();
        assert!(
            device.info().features.ends_with(&format!(", {threads}")),
            "{name}: {}",
            device.info().features
        );
        let bound = bind(&*device);
        let mut runner = Runner::new(&*device, &bound.plan, &bound.bindings).unwrap();
        runner.set("x", &floats(&[1.0, 1.0, 1.0, 1.0])).unwrap();
        runner.run().unwrap();
        assert_eq!(as_floats(&runner.get("y").unwrap()), [1.0, 2.0, 4.0]);
    }
    assert!(matches!(
        registry.open("cpu:1").err(),
        Some(DeviceError::NotFound { .. })
    ));
    let missing = Isa::ALL.into_iter().find(|isa| !isa.is_available());
    if let Some(isa) = missing {
        let refused =
            CpuBackend::new(CpuOptions { threads: None, isa }).open(&"cpu".parse().unwrap());
        assert!(matches!(
            refused.err(),
            Some(DeviceError::Setting {
                setting: "GGRS_CPU_ISA",
                ..
            })
        ));
    }
    let none = backend(0).open(&"cpu".parse().unwrap());
    assert!(matches!(
        none.err(),
        Some(DeviceError::Setting {
            setting: "threads",
            ..
        })
    ));
}

#[test]
fn a_plan_for_other_threads_is_refused_not_run() {
    let (one, many) = (open(1), open(4));
    let mut g = GraphBuilder::new();
    let x = g.input("x", DType::F16, [8, 16]).unwrap();
    let y = g.add(x, x).unwrap();
    g.output("y", y).unwrap();
    let plan = Arc::new(plan(&g.seal().unwrap(), &*one, &PlanOptions::default()).unwrap());
    let compiled = many.compile(&plan, &Bindings::new());
    assert!(matches!(
        compiled.err(),
        Some(BindError::Device(DeviceError::Setting {
            setting: "plan",
            ..
        }))
    ));
    assert!(one.compile(&plan, &Bindings::new()).is_ok());
}

#[test]
fn runs_from_several_host_threads_take_turns() {
    let device = open(2);
    let bound = bind(&*device);
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (device, bound) = (&device, &bound);
            scope.spawn(move || {
                let mut bindings = bound.bindings.clone();
                bindings.insert("sum", device.alloc(16, BufferUse::State).unwrap());
                let mut runner = Runner::new(&**device, &bound.plan, &bindings).unwrap();
                for run in 0..50 {
                    let x = (i * 100 + run) as f32;
                    runner.set("x", &floats(&[x, 1.0, 0.0, 0.0])).unwrap();
                    runner.run().unwrap();
                    assert_eq!(as_floats(&runner.get("y").unwrap()), [x, 2.0, x + 1.0]);
                }
            });
        }
    });
}
