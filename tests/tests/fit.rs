//! Fitting a model into memory: what is given up, in which order, and the refusal that says what is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::Device;
use ggrs_core::device::null::NullDevice;
use ggrs_model::fit::{Fit, FitError, FitOptions, fit};
use ggrs_model::gguf::GgufFile;
use ggrs_model::synth::{self, Mix, Preset, SynthSpec};
use ggrs_model::{Deployment, HostExperts, LoadOptions, SessionOptions, SplitMode, preview};

const MIB: u64 = 1 << 20;

/// A model of eight layers; the folder keeps the file.
fn model() -> (tempfile::TempDir, GgufFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let spec = SynthSpec {
        n_layers: Some(8),
        ..SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Q4KM)
    };
    synth::write(&spec, &path, &mut |_, _| {}).unwrap();
    let file = GgufFile::open(&path).unwrap();
    (folder, file)
}

fn device(i: usize, bytes: u64) -> Arc<dyn Device> {
    Arc::new(NullDevice::new(format!("null:{i}").parse().unwrap(), bytes))
}

/// Devices of these sizes, and a host with plenty.
fn deployment(sizes: &[u64], split: SplitMode) -> Deployment {
    let devices = sizes.iter().enumerate();
    Deployment {
        devices: devices.map(|(i, bytes)| vec![device(i, *bytes)]).collect(),
        host: Some(device(99, 1 << 40)),
        split,
        ..Deployment::default()
    }
}

fn options(n_ctx: Option<usize>) -> FitOptions {
    FitOptions {
        session: SessionOptions {
            n_ctx,
            n_batch: 64,
            kv_dtype: DType::F16,
            ..SessionOptions::default()
        },
        min_ctx: 256,
        margin_bytes: MIB,
        may_use_host: true,
    }
}

/// Bytes that a deployment takes on each device, worked out without the fit: three prefill steps and two of one token.
fn need(file: &GgufFile, deployment: &Deployment, n_ctx: usize) -> BTreeMap<String, u64> {
    let session = options(Some(n_ctx)).session;
    let placement = deployment.placement().unwrap();
    let mut need = BTreeMap::new();
    for (n_tokens, times) in [(64, 3), (1, 2)] {
        let plan = preview(
            file,
            &placement,
            &LoadOptions::default(),
            &session,
            n_tokens,
        )
        .unwrap();
        for d in plan.device_bytes() {
            let lasting = if n_tokens == 1 {
                d.weights + d.states
            } else {
                0
            };
            *need.entry(d.device).or_insert(0) += lasting + (d.arena + d.constants) * times;
        }
    }
    need
}

fn fitted(file: &GgufFile, deployment: &Deployment, n_ctx: Option<usize>) -> Result<Fit, FitError> {
    fit(file, deployment, &LoadOptions::default(), &options(n_ctx))
}

/// What is claimed must be so: nothing above what may be used, and the bytes those of the plan.
fn check(file: &GgufFile, fit: &Fit) {
    let need = need(file, &fit.deployment, fit.n_ctx);
    for room in &fit.devices {
        assert!(room.missing() == 0 && room.need <= room.have, "{room:?}");
        assert_eq!(need.get(&room.device), Some(&room.need), "{room:?}");
    }
    assert!(fit.attempts.last().is_some_and(|a| a.missing.is_empty()));
}

#[test]
fn what_fits_is_left_as_it_is() {
    let (_folder, file) = model();
    let wanted = deployment(&[1 << 34], SplitMode::None);
    let fit = fitted(&file, &wanted, Some(512)).unwrap();
    check(&file, &fit);
    assert_eq!((fit.n_ctx, fit.attempts.len()), (512, 1));
    assert_eq!(fit.deployment.host_experts, HostExperts::None);
}

#[test]
fn the_context_shrinks_first_and_to_the_last_block_that_fits() {
    let (_folder, file) = model();
    let full = deployment(&[1 << 34], SplitMode::None);
    let enough = need(&file, &full, 1024)["null:0"];
    let wanted = deployment(&[enough + MIB], SplitMode::None);
    let fit = fitted(&file, &wanted, None).unwrap();
    check(&file, &fit);
    assert_eq!(fit.deployment.host_experts, HostExperts::None);
    // Working memory grows a little with the page table: never more than fits, never a block less.
    assert_eq!(fit.n_ctx, 1024);
}

#[test]
fn experts_go_to_the_host_when_the_context_is_fixed_and_no_more_than_needed() {
    let (_folder, file) = model();
    let full = deployment(&[1 << 34], SplitMode::None);
    let with = |n| Deployment {
        host_experts: HostExperts::First(n),
        ..full.clone()
    };
    let (three, two) = (
        need(&file, &with(3), 512)["null:0"],
        need(&file, &with(2), 512)["null:0"],
    );
    assert!(three < two, "experts off the device must free memory");
    let fit = fitted(
        &file,
        &deployment(&[three + MIB], SplitMode::None),
        Some(512),
    )
    .unwrap();
    check(&file, &fit);
    assert_eq!(fit.deployment.host_experts, HostExperts::First(3));
    assert_eq!(fit.n_ctx, 512);
}

#[test]
fn layers_go_to_the_host_when_experts_are_not_enough() {
    let (_folder, file) = model();
    let full = deployment(&[1 << 34], SplitMode::None);
    let layers = |n| Deployment {
        host_experts: HostExperts::All,
        gpu_layers: Some(n),
        ..full.clone()
    };
    let five = need(&file, &layers(5), 512)["null:0"];
    assert!(five < need(&file, &layers(6), 512)["null:0"]);
    let fit = fitted(
        &file,
        &deployment(&[five + MIB], SplitMode::None),
        Some(512),
    )
    .unwrap();
    check(&file, &fit);
    assert_eq!(fit.deployment.gpu_layers, Some(5));
}

#[test]
fn shares_follow_the_free_memory_in_every_split() {
    let (_folder, file) = model();
    for split in [SplitMode::Layer, SplitMode::Tensor] {
        let even = deployment(&[1 << 34, 1 << 34], split);
        let need = need(&file, &even, 512);
        let all: u64 = need.values().sum();
        // Together with room to spare, but not in equal parts.
        let wanted = deployment(&[all, all / 3], split);
        let fit = fitted(&file, &wanted, Some(512)).unwrap();
        check(&file, &fit);
        assert_eq!(fit.deployment.host_experts, HostExperts::None, "{split:?}");
        let shares = &fit.deployment.shares;
        assert!(
            shares.is_empty() || shares[0] > shares[1],
            "{split:?} {shares:?}"
        );
    }
}

#[test]
fn shares_follow_the_bandwidth_as_long_as_memory_allows() {
    let (_folder, file) = model();
    let fast = |i: usize, bytes: u64, speed: f64| -> Vec<Arc<dyn Device>> {
        let name = format!("null:{i}").parse().unwrap();
        vec![Arc::new(NullDevice::new(name, bytes).with_bandwidth(speed))]
    };
    for split in [SplitMode::Layer, SplitMode::Tensor] {
        let of = |fast_bytes: u64| Deployment {
            devices: vec![fast(0, fast_bytes, 3e12), fast(1, 1 << 34, 1e12)],
            split,
            ..Deployment::default()
        };
        let fit = fitted(&file, &of(1 << 34), Some(512)).unwrap();
        check(&file, &fit);
        assert_eq!(fit.deployment.shares, [0.75, 0.25], "{split:?}");
        // The fast one has room for a third of it: memory decides.
        let all: u64 = need(&file, &of(1 << 34), 512).values().sum();
        let fit = fitted(&file, &of(all / 3 + MIB), Some(512)).unwrap();
        check(&file, &fit);
        let shares = &fit.deployment.shares;
        assert!(shares[0] < shares[1], "{split:?} {shares:?}");
    }
}

#[test]
fn a_refusal_names_every_device_and_the_bytes_it_lacks() {
    let (_folder, file) = model();
    let wanted = Deployment {
        host: None,
        ..deployment(&[2 * MIB, 3 * MIB], SplitMode::Layer)
    };
    let Err(error) = fitted(&file, &wanted, Some(512)) else {
        panic!("nothing fits two MiB");
    };
    let FitError::TooBig { last, attempts } = &error else {
        panic!("{error}");
    };
    assert!(!attempts.is_empty());
    for room in &last.missing {
        assert!(room.missing() > 0 && room.need == room.have + room.missing());
    }
    let text = error.to_string();
    assert!(
        text.contains("the model does not fit: even with --ctx 512"),
        "{text}"
    );
    assert!(
        text.contains("null:0 lacks ") && text.contains("(needs "),
        "{text}"
    );
}
