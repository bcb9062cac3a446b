//! `ggrs plan`, and the placement options that every command shares.

use crate::process::{arg, ggrs};

#[test]
fn the_demo_has_a_plan_on_one_device() {
    let text = ggrs(["plan"]).succeeded().stdout;
    for said in [
        "(qwen3moe) from the demo model",
        "everything on cpu:0",
        "Memory",
        "cpu:0",
        "Placement",
        "Decode of 1 token: ",
        "Prefill of 512 tokens: ",
        "nothing moves between devices",
    ] {
        assert!(text.contains(said), "{said:?} is not in: {text}");
    }
    assert_eq!(text, ggrs(["plan", "demo"]).succeeded().stdout);
    let ops = ggrs(["plan", "--ops"]).succeeded().stdout;
    assert!(ops.contains("blk.0.attn_q.weight") && ops.len() > 2 * text.len());
}

#[test]
fn a_plan_as_json_adds_up() {
    let model = ggrs(["inspect", "--json"]).json();
    let told = ggrs([
        "plan",
        "--json",
        "-",
        "--ctx",
        "256",
        "--kv-type",
        "f32",
        "--tokens",
        "8",
    ])
    .json();
    assert_eq!(
        (&told["version"], &told["context"]["n_ctx"]),
        (&1.into(), &256.into())
    );
    let keys = |k: &str| model["metadata"][format!("qwen3moe.{k}")].as_u64().unwrap();
    let n_layers = keys("block_count");
    // Input, layers, output.
    assert_eq!(
        told["layers"].as_array().unwrap().len() as u64,
        n_layers + 2
    );
    // Keys and values of 256 tokens in 4 bytes an element.
    let kv =
        n_layers * 256 * keys("attention.head_count_kv") * keys("attention.key_length") * 2 * 4;
    assert_eq!(told["devices"][0]["bytes"]["states"], kv);
    let names = |list: &serde_json::Value| -> Vec<String> {
        let mut names: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&told["weights"]), names(&model["tensors"]));
    let steps = told["steps"].as_array().unwrap();
    let tokens: Vec<_> = steps
        .iter()
        .map(|s| s["n_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(tokens, [1, 8]);
    for step in steps {
        let ops = step["ops"].as_array().unwrap();
        let sum: f64 = ops.iter().map(|o| o["flops"].as_f64().unwrap()).sum();
        assert!(sum > 0.0 && (step["totals"]["flops"].as_f64().unwrap() - sum).abs() < 1e-6 * sum);
        assert!(
            ops.iter()
                .all(|o| !o["kernel"].as_str().unwrap().is_empty())
        );
    }
}

#[test]
fn a_plan_is_written_as_a_page_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let (page, json) = (
        folder.path().join("plan.html"),
        folder.path().join("plan.json"),
    );
    let run = ggrs(["plan", "--html", arg(&page), "--json", arg(&json)]).succeeded();
    assert!(run.stdout.contains("Placement") && run.stderr.contains("plan.html written"));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(!page.contains("http:") && !page.contains("https:"));
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rows = page.matches("<tr class=\"layer\"").count();
    assert_eq!(rows, json["layers"].as_array().unwrap().len());
    ggrs(["plan", "--html", "/nowhere/plan.html"]).failed(1, &["cannot write /nowhere/plan.html"]);
}

#[test]
fn layers_over_two_members_show_their_border_and_the_copy_over_it() {
    let told = ggrs([
        "plan",
        "--devices",
        "cpu:0/2,cpu:1/2",
        "--split",
        "layer",
        "--json",
        "-",
    ])
    .json();
    assert_eq!(told["split"], "runs of layers over cpu:0/2, cpu:1/2");
    let weights = |i: usize| told["devices"][i]["bytes"]["weights"].as_u64().unwrap();
    assert!(weights(0) > 0 && weights(1) > 0);
    let decode = &told["steps"][0];
    let copies: Vec<_> = decode["exchanges"].as_array().unwrap().iter().collect();
    assert!(!copies.is_empty());
    assert!(
        copies
            .iter()
            .any(|c| (&c["from"], &c["to"]) == (&0.into(), &1.into())),
        "{copies:?}"
    );
    // Both live in the memory of one machine.
    assert_eq!(
        told["devices"][0]["shares_memory_with"],
        serde_json::json!([1])
    );
    let pinned = [
        "plan",
        "--devices",
        "cpu:0/2,cpu:1/2",
        "--override-tensor",
        "/blk\\.0\\.ffn_.*_exps/=cpu:1/2",
    ];
    let text = ggrs(pinned).succeeded().stdout;
    assert!(
        text.contains("pin  --override-tensor /blk\\.0\\.ffn_.*_exps/=cpu:1/2: blk.0.ffn_"),
        "{text}"
    );
}

#[test]
fn a_tensor_split_has_members_collectives_and_cuts() {
    let args = [
        "plan",
        "--devices",
        "cpu:0/2,cpu:1/2",
        "--split",
        "tensor",
        "--json",
        "-",
    ];
    let told = ggrs(args).json();
    assert_eq!(told["devices"][0]["members"], serde_json::json!([1, 2]));
    let weights = |i: usize| told["devices"][i]["bytes"]["weights"].as_u64().unwrap();
    assert!(weights(1) > 0 && weights(2) > 0 && weights(0) == weights(1) + weights(2));
    let layer = &told["layers"][1];
    assert_eq!(layer["name"], "0");
    let experts = layer["cells"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["role"] == "experts");
    assert_eq!(experts.unwrap()["arrangement"], "split");
    let decode = &told["steps"][0];
    let n = decode["totals"]["n_collectives"].as_u64().unwrap();
    // At least one sum after attention and one after the experts in every layer.
    let n_layers = told["layers"].as_array().unwrap().len() as u64 - 2;
    assert!(n >= 2 * n_layers, "{n} collectives in {n_layers} layers");
    for exchange in decode["exchanges"].as_array().unwrap() {
        assert_eq!(exchange["members"], serde_json::json!([1, 2]), "{exchange}");
        assert!(!exchange["why"].as_str().unwrap().is_empty(), "{exchange}");
    }
}

#[test]
fn placement_options_that_make_no_sense() {
    for command in ["plan", "bench"] {
        let fails = |args: &[&str], said: &[&str]| {
            let mut all = vec![command];
            all.extend(args);
            ggrs(all).failed(2, said);
        };
        fails(
            &["--devices", "cpu,"],
            &["a device's name is missing", "cpu:0/2,cpu:1/2"],
        );
        fails(&["--split", "rows"], &["rows", "none, layer, tensor"]);
        fails(
            &["--split", "tensor"],
            &["--split tensor needs several devices", "name more"],
        );
        fails(
            &["--tensor-split", "3,1"],
            &["--tensor-split needs several devices"],
        );
        fails(&["--tensor-split", "3,x"], &["\"x\" is not a share", "3,1"]);
        fails(&["--tensor-split", "0,0"], &["all shares are 0"]);
        let two = ["--devices", "cpu:0/2,cpu:1/2"];
        fails(
            &[&two[..], &["--tensor-split", "1,2,3"]].concat(),
            &["3 shares for 2 groups of devices"],
        );
        fails(
            &[&two[..], &["--expert-split", "experts"]].concat(),
            &["no device here has members", "--split tensor"],
        );
        fails(
            &["--expert-split", "rows"],
            &["rows", "width, experts, auto"],
        );
        fails(
            &["--devices", "cpu:0/4+cpu:1/4,cpu:2/4", "--split", "tensor"],
            &["makes all devices one", "--devices cpu:0/4,cpu:1/4,cpu:2/4"],
        );
        fails(
            &["--cpu-moe", "--n-cpu-moe", "2"],
            &["--cpu-moe", "cannot be used with"],
        );
        fails(
            &["--override-tensor", "blk.*"],
            &["\"blk.*\" does not say where", "GLOB=DEVICE"],
        );
        fails(
            &["--override-tensor", "/(/=cpu"],
            &["\"/(/\" is not a pattern"],
        );
        fails(&["--gpu-layers=-1"], &["--gpu-layers"]);
    }
    ggrs(["plan", "--tokens", "0"]).failed(2, &["a step of 0 tokens is not possible", "--tokens"]);
    ggrs(["plan", "--ctx", "4", "--tokens", "8"]).failed(2, &["from 1 to 4"]);
    ggrs(["plan", "--ctx", "0"]).failed(2, &["--ctx 0 is not possible"]);
}

#[test]
fn places_that_are_not_there() {
    ggrs(["plan", "--devices", "vulkan:7"]).failed(1, &["no device \"vulkan:7\"", "cpu:0"]);
    ggrs(["plan", "--override-tensor", "blk.*=cuda:0"]).failed(
        1,
        &["--override-tensor blk.*=cuda:0", "add it to --devices"],
    );
    ggrs(["plan", "--override-tensor", "no_such.*=cpu"]).failed(
        1,
        &[
            "the model has no tensor that this names",
            "token_embd.weight",
        ],
    );
    ggrs(["plan", "--kv-device", "cpu:5"]).failed(1, &["--kv-device cpu:5", "cpu:0"]);
    ggrs(["plan", "/nowhere/model.gguf"]).failed(1, &["/nowhere/model.gguf"]);
}
