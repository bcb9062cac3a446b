//! Models placed on several devices, for tests: opening CPU members, loading under a placement, running prompts.

#![allow(
    clippy::expect_used,
    reason = "only tests call this, and none of them goes on without what it gives"
)]

use std::sync::Arc;

use ggrs_core::device::{Backend, Device, DeviceName, Precision};
use ggrs_core::{DType, DeviceError};
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_model::{Deployment, LoadOptions, Logits, Model, Session, SessionOptions, SplitMode};
use ggrs_sched::{Leaves, Pattern, Pin, Placement, Spread};

use crate::fixtures::fixture_path;

/// The members `cpu:0/n` to `cpu:n-1/n` of a CPU of `threads` threads; each has at least one.
///
/// # Errors
/// The system gives no threads.
pub fn cpu_members_of(n: usize, threads: usize) -> Result<Vec<Arc<dyn Device>>, DeviceError> {
    let backend = CpuBackend::new(CpuOptions {
        threads: Some(threads),
        ..CpuOptions::default()
    });
    let open = |index| {
        backend.open(&DeviceName {
            backend: backend.name().to_owned(),
            index,
            members: n,
        })
    };
    (0..n).map(open).collect()
}

/// `n` members of the CPU with one thread each.
///
/// # Panics
/// If the CPU does not open.
pub fn cpu_members(n: usize) -> Vec<Arc<dyn Device>> {
    cpu_members_of(n, 1).expect("the CPU is always there")
}

/// A placement that spreads the layers evenly over devices.
pub fn by_layer(devices: Vec<Arc<dyn Device>>) -> Placement {
    let shares = (0..devices.len()).map(|i| (i, 1.0)).collect();
    Placement {
        devices,
        spread: Spread::Layers {
            shares,
            n_spread: None,
            rest: 0,
        },
        pins: Vec::new(),
        stream_experts_from: None,
    }
}

/// A pin of all tensors whose name matches a glob.
///
/// # Panics
/// If the glob is none.
pub fn pin(glob: &str, device: usize) -> Pin {
    Pin {
        leaves: Leaves::Name(Pattern::new(glob).expect("a glob")),
        layers: None,
        device,
        origin: format!("--override-tensor {glob}={device}"),
    }
}

/// A fixture model under a placement.
///
/// # Panics
/// If it does not load.
pub fn load(fixture: &str, placement: impl Into<Placement>, precision: Precision) -> Arc<Model> {
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let path = fixture_path(fixture);
    Model::load(path, placement, options, &mut |_, _| {}).expect("the model loads")
}

/// A session with room for `n_ctx` tokens.
///
/// # Panics
/// If it does not open.
pub fn open(model: &Arc<Model>, n_ctx: usize, kv_dtype: DType) -> Session {
    let options = SessionOptions {
        n_ctx: Some(n_ctx),
        n_batch: 64,
        kv_dtype,
        ..SessionOptions::default()
    };
    Session::new(model, &options).expect("the session opens")
}

/// Logits of every token of a prompt and of `n_more` greedy ones after it, and those tokens.
///
/// # Panics
/// If a step fails.
pub fn run(session: &mut Session, prompt: &[u32], n_more: usize) -> (Vec<f32>, Vec<u32>) {
    let n_vocab = session.model().architecture().n_vocab();
    let mut all = session.feed(prompt, Logits::All).expect("the prompt runs");
    let mut tokens = Vec::new();
    for _ in 0..n_more {
        let last = all.len() - n_vocab;
        let next = argmax(&all[last..]);
        tokens.push(next);
        all.extend(session.feed(&[next], Logits::Last).expect("a step runs"));
    }
    (all, tokens)
}

/// The first of the largest.
pub fn argmax(row: &[f32]) -> u32 {
    let best = row
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(0, |(i, _)| u32::try_from(i).unwrap_or(0))
}

/// Normalised mean square error of whole runs.
pub fn nmse(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "runs of different length");
    let square = |x: f64| x * x;
    let pairs = actual.iter().zip(expected);
    let error: f64 = pairs
        .map(|(a, e)| square(f64::from(*a) - f64::from(*e)))
        .sum();
    error / expected.iter().map(|e| square(f64::from(*e))).sum::<f64>()
}

/// A deployment that splits every tensor over CPU members.
pub fn by_tensor(n: usize, shares: &[f64]) -> Deployment {
    Deployment {
        devices: cpu_members(n).into_iter().map(|d| vec![d]).collect(),
        split: SplitMode::Tensor,
        shares: shares.to_vec(),
        ..Deployment::default()
    }
}
