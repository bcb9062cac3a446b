//! Whole models on the simulator: the kernels and the host code of CUDA devices, without one. Logits against those of
//! Hugging Face Transformers, on one device, on two by layers, on two as one whose members write into each other's memory.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::{Backend, Device, Precision};
use ggrs_meta::{MetaDevice, MetaOptions};
use ggrs_model::gguf::GgufFile;
use ggrs_model::{LoadOptions, Logits, Model, SessionOptions, preview};
use ggrs_sched::Placement;
use ggrs_tests::fixtures::Golden;
use ggrs_tests::gpu::simulator;
use ggrs_tests::placed::{by_layer, open, run};

const WARP: u32 = 32;

fn devices(n: usize) -> Option<Vec<Arc<dyn Device>>> {
    let backend = simulator(WARP)?;
    let open = |i: usize| backend.open(&format!("cuda:{i}").parse().unwrap()).unwrap();
    Some((0..n).map(open).collect())
}

fn members(n: usize) -> Option<Placement> {
    let meta: Arc<dyn Device> = MetaDevice::new(devices(n)?, MetaOptions::default()).unwrap();
    Some(Placement::from(meta))
}

fn options(precision: Precision) -> LoadOptions {
    LoadOptions {
        precision,
        ..LoadOptions::default()
    }
}

fn load(golden: &Golden, placement: Placement, precision: Precision) -> Arc<Model> {
    let options = options(precision);
    Model::load(&golden.gguf_path, placement, options, &mut |_, _| {}).unwrap()
}

/// The kernels of a step of one token, of every device and member.
fn kernels(golden: &Golden, placement: &Placement, precision: Precision) -> BTreeSet<String> {
    let file = GgufFile::open(&golden.gguf_path).unwrap();
    let session = SessionOptions::default();
    let plan = preview(&file, placement, &options(precision), &session, 1).unwrap();
    let parts = plan.parts.iter().map(|part| &part.plan);
    let all = parts.flat_map(|plan| plan.members.iter().chain([plan]));
    let steps = all.flat_map(|plan| &plan.steps);
    steps.map(|s| s.route.kernel.to_string()).collect()
}

/// Does a kernel's name begin so?
fn is_there(kernels: &BTreeSet<String>, start: &str) -> bool {
    kernels.iter().any(|k| k.starts_with(start))
}

/// The median NMSE of the stored rows of the first prompts, read in steps of at most so many tokens.
fn median_nmse(
    golden: &Golden,
    placement: Placement,
    precision: Precision,
    (kv, at_once): (DType, usize),
) -> f64 {
    let model = load(golden, placement, precision);
    let n_vocab = model.architecture().n_vocab();
    let mut all = Vec::new();
    for prompt in golden.prompts.iter().take(2) {
        let ids: Vec<u32> = prompt
            .ids
            .iter()
            .map(|id| u32::try_from(*id).unwrap())
            .collect();
        let mut session = open(&model, 512, kv);
        let steps = ids.chunks(at_once);
        let logits = steps.flat_map(|ids| session.feed(ids, Logits::All).unwrap());
        let logits: Vec<f32> = logits.collect();
        for (i, position) in prompt.rows.iter().enumerate() {
            let actual = &logits[position * n_vocab..(position + 1) * n_vocab];
            let expected = &prompt.logits.data[i * n_vocab..(i + 1) * n_vocab];
            let square = |x: f64| x * x;
            let error: f64 = actual
                .iter()
                .zip(expected)
                .map(|(a, e)| square(f64::from(*a) - e))
                .sum();
            all.push(error / expected.iter().map(|e| square(*e)).sum::<f64>());
        }
    }
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn exact_logits_are_the_reference_on_one_device_and_on_two() {
    let Some(one) = devices(1) else { return };
    let golden = Golden::load("qwen3moe", "small-mix32").unwrap();
    let bound = golden.tolerances.exact.row_nmse_median;
    assert!(bound <= 1e-10);
    let placements = [
        ("one", Placement::from(Arc::clone(&one[0]))),
        ("by layers", by_layer(devices(2).unwrap())),
        ("by tensors", members(2).unwrap()),
    ];
    for (name, placement) in placements {
        let nmse = median_nmse(&golden, placement, Precision::Exact, (DType::F32, 512));
        assert!(nmse <= bound, "{name}: {nmse:e}");
    }
}

#[test]
fn fast_logits_keep_the_files_tolerance() {
    let Some(one) = devices(1) else { return };
    for file in ["small-mix32", "k-kmix"] {
        let golden = Golden::load("qwen3moe", file).unwrap();
        let placement = Placement::from(Arc::clone(&one[0]));
        let bound = golden.tolerances.lowp.row_nmse_median;
        for at_once in [512, 1] {
            let how = (DType::F16, at_once);
            let nmse = median_nmse(&golden, placement.clone(), Precision::Fast, how);
            assert!(
                nmse <= bound,
                "{file} by {at_once}: {nmse:e}, bound {bound:e}"
            );
        }
    }
}

#[test]
fn steps_of_one_token_run_as_stages_and_write_what_one_device_writes() {
    let Some(one) = devices(1) else { return };
    let golden = Golden::load("qwen3moe", "k-kmix").unwrap();
    let prompt: Vec<u32> = golden.prompts[0]
        .ids
        .iter()
        .take(16)
        .map(|id| *id as u32)
        .collect();
    let write = |placement: Placement, precision| {
        let model = load(&golden, placement, precision);
        run(&mut open(&model, 64, DType::F32), &prompt, 8).1
    };
    let one = Placement::from(Arc::clone(&one[0]));
    let expected = write(one.clone(), Precision::Exact);
    let fast = kernels(&golden, &one, Precision::Fast);
    for stage in ["norm_products/", "qk_prep", "experts/"] {
        assert!(is_there(&fast, stage), "no {stage} in {fast:?}");
    }
    assert_eq!(write(one, Precision::Fast), expected);
    let two = members(2).unwrap();
    let split = kernels(&golden, &two, Precision::Exact);
    assert!(is_there(&split, "all_reduce/peers"), "{split:?}");
    assert_eq!(write(two, Precision::Exact), expected);
}
