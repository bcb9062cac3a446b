//! What many devices cost: planning by layers and members, ranges of sharded memory, dispatch of a decode step.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ggrs_core::device::Device;
use ggrs_core::device::null::NullDevice;
use ggrs_core::plan::PlanOptions;
use ggrs_core::{DType, Graph};
use ggrs_model::gguf::GgufFile;
use ggrs_model::synth::{self, Mix, Preset, SynthSpec};
use ggrs_model::{Architecture, Deployment, SplitMode, StepShape};
use ggrs_sched::SchedPlan;

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
    };
    let graph = Architecture::read(&file).and_then(|a| a.graph(&file, &shape));
    let graph = graph.expect("a graph");
    graph.bind(&[("n_tokens", 1), ("n_out", 1)]).expect("sizes in range")
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

criterion_group!(benches, planning);
criterion_main!(benches);
