//! Whole steps of models: one decode step, one prefill, on the demo model and on a random model of real shape.
//!
//! `GGRS_BENCH_MODEL` names a GGUF file to measure as well.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ggrs_core::device::{Backend, DeviceName};
use ggrs_cpu::CpuBackend;
use ggrs_model::{LoadOptions, Logits, Model, Session, SessionOptions};

fn models() -> Vec<(String, PathBuf)> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ggrs-cli/assets/demo-q8_0.gguf");
    let mut all = vec![("demo-q8_0".to_owned(), demo)];
    if let Some(path) = std::env::var_os("GGRS_BENCH_MODEL").map(PathBuf::from) {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        all.push((name, path));
    }
    all
}

fn steps(c: &mut Criterion) {
    let name: DeviceName = "cpu".parse().expect("a device name");
    for (label, path) in models() {
        let device = CpuBackend::from_env()
            .and_then(|b| b.open(&name))
            .expect("the CPU is always there");
        let model = Model::load(&path, device, LoadOptions::default(), &mut |_, _| {})
            .expect("the model loads");
        let options = SessionOptions {
            n_ctx: Some(1024),
            ..SessionOptions::default()
        };
        let n_vocab = model.architecture().n_vocab() as u32;
        let ids: Vec<u32> = (0..512).map(|i| (i * 7919) % n_vocab).collect();
        let mut session = Session::new(&Arc::clone(&model), &options).expect("the session opens");

        let mut group = c.benchmark_group(label);
        for n in [64, 512] {
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(format!("prefill/{n}"), |b| {
                b.iter(|| {
                    session.truncate(0);
                    let logits = session.feed(&ids[..n], Logits::Last).expect("it runs");
                    assert!(logits.iter().all(|x| x.is_finite()));
                });
            });
        }
        for depth in [0, 512] {
            session.truncate(0);
            if depth > 0 {
                session.feed(&ids[..depth], Logits::Last).expect("it runs");
            }
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("decode/depth {depth}"), |b| {
                b.iter(|| {
                    session.truncate(depth);
                    session.feed(&ids[..1], Logits::Last).expect("it runs")
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = steps
}
criterion_main!(benches);
