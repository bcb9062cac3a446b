//! What the machinery itself costs: planning and running chains of trivial ops on the null device.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ggrs_core::device::null::NullDevice;
use ggrs_core::device::{Bindings, DeviceName, Runner};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DType, Graph, GraphBuilder};

/// `n` scalings in a row, each by another factor so that no pass merges them.
fn chain(n: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let mut x = b.input("x", DType::F32, [64]).expect("a fresh name");
    for i in 0..n {
        x = b.scale(x, 1.0 + i as f32, 0.0).expect("a valid op");
    }
    b.output("y", x).expect("a fresh name");
    b.seal().expect("it has an output")
}

fn plan_overhead(c: &mut Criterion) {
    let device = NullDevice::new(
        DeviceName {
            backend: "null".into(),
            index: 0,
            members: 1,
        },
        1 << 30,
    );
    let options = PlanOptions {
        passes: PassSet::default(),
        ..PlanOptions::default()
    };
    for (what, n) in [10, 100, 1000]
        .into_iter()
        .flat_map(|n| [("build", n), ("plan", n), ("run", n), ("replay", n)])
    {
        let graph = chain(n);
        let planned = Arc::new(plan(&graph, &device, &options).expect("a plan"));
        assert_eq!(planned.steps.len(), n);
        let mut group = c.benchmark_group(format!("chain/{what}"));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::from_parameter(n), |b| match what {
            "build" => b.iter(|| chain(n)),
            "plan" => b.iter(|| plan(&graph, &device, &options).expect("a plan")),
            _ => {
                let mut runner =
                    Runner::new(&device, &planned, &Bindings::new()).expect("it compiles");
                if what == "replay" {
                    runner.executable().capture().expect("it is eager");
                }
                b.iter(|| runner.run().expect("it runs"));
            }
        });
        group.finish();
    }
}

criterion_group!(benches, plan_overhead);
criterion_main!(benches);
