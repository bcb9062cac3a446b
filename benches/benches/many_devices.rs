//! What many devices cost: planning by layers and members, ranges of sharded memory, dispatch of a decode step.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ggrs_core::device::null::NullDevice;
use ggrs_core::device::{Backend, Bindings, BufferSlice, Device, Runner, WeightSource};
use ggrs_core::plan::{Plan, PlanOptions};
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Role, RoleKind};
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_meta::{MetaDevice, MetaOptions};
use ggrs_model::gguf::GgufFile;
use ggrs_model::synth::{self, Mix, Preset, SynthSpec};
use ggrs_model::{
    Architecture, Deployment, LoadOptions, SessionOptions, SplitMode, StepShape, preview,
};
use ggrs_sched::{Placement, SchedPlan, SchedRunner};

/// The decode step of a model with this many layers.
fn decode_step(n_layers: usize) -> Graph {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let spec = SynthSpec {
        n_layers: Some(n_layers),
        ..SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Q4KM)
    };
    synth::write(&spec, &path, &mut |_, _| {}).expect("a model file");
    let file = GgufFile::open(&path).expect("a valid file");
    let shape = StepShape {
        max_tokens: 512,
        n_slots: 1,
        n_blocks: 64,
        block: 64,
        kv_dtype: DType::F16,
        decode: None,
    };
    let graph = Architecture::read(&file).and_then(|a| a.graph(&file, &shape));
    let graph = graph.expect("a graph");
    graph
        .bind(&[("n_tokens", 1), ("n_out", 1)])
        .expect("sizes in range")
}

fn null_devices(n: usize) -> Vec<Vec<Arc<dyn Device>>> {
    let device = |i: usize| {
        let name = format!("null:{i}").parse().expect("a device name");
        vec![Arc::new(NullDevice::new(name, 1 << 40)) as Arc<dyn Device>]
    };
    (0..n).map(device).collect()
}

fn planning(c: &mut Criterion) {
    let options = PlanOptions::default();
    for n_layers in [12, 48] {
        let graph = decode_step(n_layers);
        for split in [SplitMode::Layer, SplitMode::Tensor] {
            let mut group = c.benchmark_group(format!("plan/{split:?}/{n_layers}_layers"));
            for members in [1, 2, 4] {
                let deployment = Deployment {
                    devices: null_devices(members),
                    split,
                    ..Deployment::default()
                };
                let placement = deployment.placement().expect("a placement");
                let plan = SchedPlan::new(&graph, &placement, &options).expect("a plan");
                assert!(plan.n_steps() >= 10 * n_layers, "{} steps", plan.n_steps());
                group.bench_function(BenchmarkId::from_parameter(members), |b| {
                    b.iter(|| SchedPlan::new(&graph, &placement, &options).expect("a plan"));
                });
            }
            group.finish();
        }
    }
}

/// A plan of one device with everything bound: what the scheduler and a device made of one are compared with.
fn bound(file: &GgufFile, device: &Arc<dyn Device>) -> (Arc<Plan>, Bindings) {
    let session = SessionOptions::default();
    let placement = Placement::on(Arc::clone(device));
    let plan = preview(file, &placement, &LoadOptions::default(), &session, 1).expect("a plan");
    let plan = Arc::clone(&plan.parts.first().expect("one part").plan);
    let mut bindings = Bindings::new();
    for slot in &plan.weights {
        let tensor = file.tensor(&slot.name).expect("it is in the file");
        let source = WeightSource {
            bytes: tensor.bytes,
            owner: None,
        };
        let buffer = device.load_weight(slot, source).expect("memory");
        bindings.insert(&slot.name, buffer);
    }
    for slot in &plan.states {
        bindings.insert(&slot.name, device.alloc_state(slot).expect("memory"));
    }
    (plan, bindings)
}

/// Inputs of a decode step at position 0 of slot 0.
const INPUTS: [(&str, i32); 4] = [
    ("tokens", 3),
    ("positions", 0),
    ("slots", 0),
    ("out_rows", 0),
];

/// One decode step of the demo: on the device itself, through the scheduler, through a device made of one.
fn dispatch(c: &mut Criterion) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ggrs-cli/assets/demo-q8_0.gguf");
    let file = GgufFile::open(demo).expect("the demo");
    let options = CpuOptions {
        threads: Some(1),
        ..CpuOptions::default()
    };
    let name = "cpu".parse().expect("a device name");
    let device = CpuBackend::new(options).open(&name).expect("the CPU");
    let joined: Arc<dyn Device> =
        MetaDevice::new(vec![Arc::clone(&device)], MetaOptions::default()).expect("one member");
    let mut group = c.benchmark_group("dispatch/demo_decode");
    let mut logits = Vec::new();
    for (label, device, scheduled) in [
        ("device", &device, false),
        ("scheduler", &device, true),
        ("scheduler_and_meta_of_one", &joined, true),
    ] {
        let (plan, bindings) = bound(&file, device);
        let table = plan
            .inputs
            .iter()
            .find(|i| i.name == "page_table")
            .expect("an input");
        let table: Vec<u8> = (0..table.desc.shape.elems().unwrap_or(0) as i32)
            .flat_map(i32::to_le_bytes)
            .collect();
        if scheduled {
            let placement = Placement::on(Arc::clone(device));
            let session = SessionOptions::default();
            let plan = preview(&file, &placement, &LoadOptions::default(), &session, 1);
            let plan = Arc::new(plan.expect("a plan"));
            let mut runner =
                SchedRunner::new(&placement.devices, &plan, &[bindings], None).expect("it binds");
            runner.capture().expect("it is eager");
            for (name, value) in INPUTS {
                runner.set(name, &value.to_le_bytes()).expect("an input");
            }
            runner.set("page_table", &table).expect("an input");
            runner.run().expect("it runs");
            logits.push(runner.get("logits").expect("an output"));
            group.bench_function(label, |b| b.iter(|| runner.run().expect("it runs")));
        } else {
            let mut runner = Runner::new(&**device, &plan, &bindings).expect("it binds");
            runner.executable().capture().expect("it is eager");
            for (name, value) in INPUTS {
                runner.set(name, &value.to_le_bytes()).expect("an input");
            }
            runner.set("page_table", &table).expect("an input");
            runner.run().expect("it runs");
            logits.push(runner.get("logits").expect("an output"));
            group.bench_function(label, |b| b.iter(|| runner.run().expect("it runs")));
        }
    }
    group.finish();
    assert!(
        logits.windows(2).all(|w| w[0] == w[1]),
        "all three give the same"
    );
}

/// Ranges of a tensor that lies over members: the whole, and rows that cross every cut.
fn ranges(c: &mut Criterion) {
    const ROWS: usize = 512;
    const WIDTH: usize = 24_576;
    let options = CpuOptions {
        threads: Some(1),
        ..CpuOptions::default()
    };
    let backend = CpuBackend::new(options);
    for members in [1, 2, 4] {
        let opened = (0..members).map(|i| {
            let name = format!("cpu:{i}/{members}").parse().expect("a device name");
            backend.open(&name).expect("the CPU")
        });
        let device = MetaDevice::new(opened.collect(), MetaOptions::default()).expect("members");
        let mut b = GraphBuilder::new();
        let state = b
            .state("kv", DType::F16, [ROWS, WIDTH])
            .expect("a fresh name");
        let link = Link::new("heads", Cut::Heads, WIDTH / 64, 1, 64);
        let role = Role::in_layer(RoleKind::Kv, 0).with(link);
        b.describe(state, role).expect("it fits");
        let y = b.contiguous(state).expect("a copy");
        b.output("y", y).expect("a fresh name");
        let graph = b.seal().expect("it has an output");
        let plan =
            ggrs_core::plan::plan(&graph, &*device, &PlanOptions::default()).expect("a plan");
        let slot = plan.states.first().expect("the state");
        let whole = BufferSlice::whole(device.alloc_state(slot).expect("memory"));
        let mut queue = device.queue().expect("a queue");
        let n_bytes = ROWS * WIDTH * 2;
        let data: Vec<u8> = (0..n_bytes).map(|i| (i * 31 % 251) as u8).collect();
        queue.upload(&whole, &data).expect("it is written");
        let mut group = c.benchmark_group(format!("ranges/{members}_members"));
        for (label, start, n) in [
            ("whole", 0, n_bytes),
            ("one_row", 7 * WIDTH * 2 + 5, WIDTH * 2),
        ] {
            let slice = whole
                .range("bench", start as u64, n as u64)
                .expect("inside");
            let mut read = vec![0; n];
            queue.download(&slice, &mut read).expect("it is read");
            assert_eq!(read, data[start..start + n], "{label}");
            group.throughput(Throughput::Bytes(n as u64));
            group.bench_function(format!("read/{label}"), |b| {
                b.iter(|| queue.download(&slice, &mut read).expect("it is read"));
            });
            group.bench_function(format!("write/{label}"), |b| {
                b.iter(|| {
                    queue
                        .upload(&slice, &data[start..start + n])
                        .expect("it is written")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, planning, dispatch, ranges);
criterion_main!(benches);
