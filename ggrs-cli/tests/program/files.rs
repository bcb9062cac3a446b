//! Commands about files and machines: `inspect`, `synth`, `devices`.

use crate::broken_model::good_path;
use crate::process::{arg, ggrs, program, run};

#[test]
fn inspect_lists_keys_tensors_and_sizes() {
    let path = good_path();
    let text = ggrs(["inspect", arg(&path)]).succeeded().stdout;
    for line in [
        "GGUF version 3, 388.53 KiB (397856 bytes), 351.04 K parameters",
        "28 metadata keys",
        "  qwen3moe.block_count (u32) = 4",
        "  tokenizer.ggml.tokens (array of 416 string) = [\"!\", \"\\\"\", \"#\", \"$\", \"%\", \"&\", \"'\", \"(\", ..]",
        "51 tensors",
    ] {
        assert!(text.contains(line), "{line:?} is not in: {text}");
    }
    let full = ggrs(["inspect", "--full", arg(&path)]).succeeded().stdout;
    assert!(full.len() > text.len() + 1000);
}

#[test]
fn inspect_as_json_is_complete() {
    let path = good_path();
    let told = ggrs(["inspect", "--json", arg(&path)]).json();
    assert_eq!(told["bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(told["metadata"]["qwen3moe.rope.freq_base"], 1e6);
    assert_eq!(told["metadata"]["tokenizer.ggml.tokens"]["len"], 416);
    let tensors = told["tensors"].as_array().unwrap();
    let q = tensors
        .iter()
        .find(|t| t["name"] == "blk.0.attn_k.weight")
        .unwrap();
    assert_eq!(
        *q,
        serde_json::json!({
            "name": "blk.0.attn_k.weight", "dtype": "Q8_0", "shape": [64, 64], "offset": 127_904, "bytes": 4352, "file": 0
        })
    );
    let sum = |dtype: &str| {
        tensors
            .iter()
            .filter(|t| t["dtype"] == dtype)
            .filter_map(|t| t["bytes"].as_u64())
            .sum()
    };
    for dtype in ["F32", "Q8_0"] {
        let bytes: u64 = sum(dtype);
        assert_eq!(told["by_dtype"][dtype]["bytes"], bytes);
    }
}

#[test]
fn synth_writes_models_that_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let synth = [
        "synth",
        "qwen3moe-tiny",
        "--vocab",
        "dummy",
        "--qtype",
        "q4_k_m",
        "--layers",
        "2",
    ];
    let told = ggrs(synth.into_iter().chain(["--json", "-o", arg(&path)])).json();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(told["bytes"], bytes.len());
    let listed = ggrs(["inspect", "--json", arg(&path)]).json();
    assert_eq!(listed["metadata"]["qwen3moe.block_count"], 2);
    assert_eq!(
        told["bytes_by_dtype"]["Q4_K"],
        listed["by_dtype"]["Q4_K"]["bytes"]
    );
    let answer = ggrs(["run", arg(&path), "Hi", "-n", "4", "--ignore-eos", "--json"]).json();
    assert_eq!(answer["tokens"].as_array().map(Vec::len), Some(4));

    // Equal requests give equal files, another seed another one.
    let again = folder.path().join("again.gguf");
    let text = ggrs(synth.into_iter().chain(["-o", arg(&again)]))
        .succeeded()
        .stdout;
    assert!(text.contains(&format!("({} bytes)", bytes.len())), "{text}");
    assert_eq!(std::fs::read(&again).unwrap(), bytes);
    ggrs(synth.into_iter().chain(["--seed", "1", "-o", arg(&again)])).succeeded();
    assert_ne!(std::fs::read(&again).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn synth_writes_architectures_that_cannot_run_yet() {
    let folder = tempfile::tempdir().unwrap();
    for preset in ["qwen35moe-tiny", "gemma4moe-tiny"] {
        let path = folder.path().join(format!("{preset}.gguf"));
        ggrs(["synth", preset, "--qtype", "Q8_0", "-o", arg(&path)]).succeeded();
        ggrs(["inspect", arg(&path)]).succeeded();
    }
}

#[test]
fn devices_names_the_cpu_and_its_level() {
    let told = ggrs(["devices", "--json"]).json();
    assert_eq!(told.as_array().map(Vec::len), Some(1));
    assert_eq!(told[0]["name"], "cpu:0");
    let total = told[0]["memory"]["total"].as_u64().unwrap();
    assert!(total > 1 << 28 && told[0]["memory"]["free"].as_u64().unwrap() <= total);
    let mut scalar = program();
    scalar.arg("devices").env("GGRS_CPU_ISA", "scalar");
    let text = run(scalar, b"").succeeded().stdout;
    assert!(
        text.starts_with("cpu:0: ") && text.contains("(scalar, "),
        "{text}"
    );
}
