//! Requests that cannot be met on a good model: each gives an error that names the thing and the way out.

use std::process::Stdio;

use crate::broken_model::good_path;
use crate::process::{arg, ggrs, ggrs_reading, program, run};

#[test]
fn usage_errors_exit_with_2() {
    ggrs(["run", "--no-such-flag", "Hello"]).failed(2, &["--no-such-flag", "Usage: ggrs run"]);
    ggrs(["no-such-command"]).failed(2, &["no-such-command", "Usage: ggrs"]);
    ggrs(["run"]).failed(
        2,
        &[
            "no prompt",
            "Usage: ggrs run [OPTIONS] [MODEL.gguf] <PROMPT>",
        ],
    );
    ggrs(["run", "model.gguf"]).failed(2, &["a model, but no prompt", "--prompt-file"]);
    ggrs(["run", "m.gguf", "Hello", "--prompt-file", "x"])
        .failed(2, &["a prompt and --prompt-file"]);
    ggrs(["run", "--temp", "warm", "Hello"]).failed(2, &["warm", "--temp"]);
    ggrs(["run", "--precision", "double", "Hello"]).failed(2, &["double", "exact"]);
    ggrs(["run", "--kv-type", "q5_1", "Hello"]).failed(2, &["q5_1", "q8_0"]);
    ggrs(["run", "--no-pass", "fuse_all", "Hello"]).failed(2, &["fuse_all", "fuse_gate_up"]);
    ggrs(["run", "--threads", "0", "Hello"]).failed(2, &["--threads"]);
    ggrs(["logits", "Hello", "-o", "x.txt"]).failed(2, &[".npy or .safetensors"]);
    ggrs(["logits", "--ids", "1,two", "-o", "x.npy"]).failed(2, &["\"two\" is not a token id"]);
    ggrs(["logits", "-o", "x.npy"]).failed(2, &["--ids"]);
    ggrs(["tokenize"]).failed(2, &["--decode"]);
    ggrs(["synth", "gpt-5", "-o", "x.gguf"]).failed(2, &["gpt-5", "qwen3-30b-a3b"]);
    ggrs(["synth", "qwen3moe-tiny", "--qtype", "q9", "-o", "x.gguf"]).failed(2, &["q9", "Q4_K_M"]);
    ggrs(["bench", "-r", "0"]).failed(2, &["--repetitions"]);
}

#[test]
fn help_is_not_an_error() {
    for command in [
        "run",
        "chat",
        "bench",
        "inspect",
        "devices",
        "synth",
        "tokenize",
        "logits",
        "perplexity",
        "plan",
    ] {
        let help = ggrs([command, "--help"]).succeeded().stdout;
        assert!(help.contains(&format!("Usage: ggrs {command}")), "{help}");
    }
    assert!(ggrs(["--version"]).succeeded().stdout.starts_with("ggrs "));
}

#[test]
fn a_prompt_longer_than_the_context() {
    let said = [
        "13 more tokens do not fit: the context holds 8, 0 are used",
        "--ctx",
    ];
    ggrs(["run", "--ctx", "8", "The capital of France is"]).failed(1, &said);
}

#[test]
fn a_context_that_does_not_fit_memory() {
    let said = [
        "the KV cache of 2000000000 tokens (F16) needs",
        "--ctx",
        "--kv-type",
        "cpu:0: out of memory",
    ];
    for mut args in [
        vec!["run", "Hello"],
        vec!["bench"],
        vec!["logits", "Hello", "-o", "x.npy"],
    ] {
        args.extend(["--ctx", "2000000000"]);
        ggrs(&args).failed(1, &said);
    }
    ggrs(["run", "--ctx", "18446744073709551615", "Hello"])
        .failed(1, &["the context length (--ctx)", "from 1 to"]);
}

#[test]
fn settings_outside_their_range() {
    ggrs(["run", "--ctx", "0", "Hello"])
        .failed(1, &["the context length (--ctx) = 0 is not possible"]);
    ggrs(["run", "--batch", "0", "Hello"])
        .failed(1, &["tokens per step (--batch) = 0 is not possible"]);
    ggrs(["run", "--top-p", "1.5", "Hello"]).failed(1, &["`top_p` is 1.5", "up to 1"]);
    ggrs(["run", "--temp", "NaN", "Hello"]).failed(1, &["`temperature` is NaN"]);
    ggrs(["logits", "--ids", "1", "--batch", "0", "-o", "x.npy"]).failed(1, &["--batch"]);
    let text = good_path().with_file_name("README.md");
    ggrs(["perplexity", arg(&text), "--ctx", "3"])
        .failed(1, &["a window of 3 tokens is too small", "--ctx"]);
    ggrs(["synth", "qwen3moe-tiny", "--layers", "0", "-o", "x.gguf"])
        .failed(1, &["1 to 1024 layers"]);
}

#[test]
fn text_that_is_not_utf8() {
    let said = [
        "standard input is not UTF-8 text",
        "at offset 6",
        "convert it",
    ];
    ggrs_reading(b"Hello \xff\xfe!", ["run", "-"]).failed(1, &said);
    ggrs_reading(b"Hello \xff\xfe!", ["run", "--prompt-file", "-"]).failed(1, &said);
    ggrs_reading(b"Hello \xff\xfe!", ["tokenize", "-"]).failed(1, &said);
    ggrs_reading(b"Hello \xff\xfe!", ["perplexity", "-"]).failed(1, &said);
    ggrs_reading(b"Hello \xff\xfe!", ["logits", "-", "-o", "x.npy"]).failed(1, &said);
    // A character that was cut off.
    ggrs_reading(b"caf\xc3", ["run", "-"]).failed(1, &["at offset 3"]);
    let model = good_path();
    ggrs(["run", "--prompt-file", arg(&model)]).failed(1, &[arg(&model), "is not UTF-8 text"]);
}

#[test]
#[cfg(unix)]
fn an_argument_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    let prompt = std::ffi::OsStr::from_bytes(b"Hi \xff");
    ggrs(["run".as_ref(), prompt]).failed(1, &["the prompt is not UTF-8 text", "at offset 3"]);
}

#[test]
fn ids_outside_the_vocabulary() {
    ggrs(["logits", "--ids", "1,2,999999", "-o", "x.npy"]).failed(
        1,
        &["token id 999999 at position 2 is outside the vocabulary of 1536"],
    );
    ggrs(["tokenize", "--decode", "5,999999"]).failed(
        1,
        &["token id 999999 is outside the vocabulary of 1536 tokens"],
    );
}

#[test]
fn an_empty_prompt() {
    ggrs(["run", "--raw", ""]).failed(1, &["the prompt has no tokens"]);
    ggrs(["logits", "--ids", "", "-o", "x.npy"]).failed(1, &["the prompt has no tokens"]);
}

#[test]
fn a_failure_leaves_the_file_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("logits.npy");
    std::fs::write(&output, "precious").unwrap();
    ggrs([
        "logits",
        "--ids",
        "1,999999",
        "--batch",
        "1",
        "-o",
        arg(&output),
    ])
    .failed(1, &["999999"]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn files_that_cannot_be_written_or_read() {
    ggrs(["logits", "--ids", "1", "-o", "/nowhere/x.npy"])
        .failed(1, &["cannot write /nowhere/x.npy", "No such file"]);
    ggrs(["synth", "qwen3moe-tiny", "-o", "/nowhere/x.gguf"])
        .failed(1, &["cannot create /nowhere/x.gguf"]);
    ggrs(["perplexity", "/nowhere/text"]).failed(1, &["cannot read /nowhere/text", "No such file"]);
    ggrs(["run", "--prompt-file", "/nowhere/text"]).failed(1, &["cannot read /nowhere/text"]);
}

#[test]
fn a_text_too_short_to_score() {
    ggrs_reading(b"Hello", ["perplexity", "-"])
        .failed(1, &["one window of 512 does not fit", "smaller --ctx"]);
}

#[test]
fn devices_that_are_not_there() {
    ggrs(["run", "--devices", "vulkan:7", "Hello"])
        .failed(1, &["no device \"vulkan:7\"; available: cpu:0"]);
    ggrs(["run", "--devices", "cpu:x", "Hello"]).failed(1, &["\"cpu:x\" is not a device name"]);
    let mut command = program();
    command.args(["run", "Hello"]).env("GGRS_CPU_ISA", "sse9");
    run(command, b"").failed(1, &["GGRS_CPU_ISA=\"sse9\"", "scalar"]);
    let mut command = program();
    let args = ["run", "--devices", "cuda:0", "Hello"];
    command.args(args).env("GGRS_CUDA_DIR", "/nowhere");
    run(command, b"").failed(
        1,
        &[
            "cuda:0 is not available",
            "(tried /nowhere/libcuda.so)",
            "install the driver",
        ],
    );
}

#[test]
fn a_model_without_vocabulary_takes_ids_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.gguf");
    ggrs(["synth", "qwen3moe-tiny", "-o", arg(&path)]).succeeded();
    ggrs(["run", arg(&path), "Hello"]).failed(1, &["the model has no vocabulary"]);
    ggrs(["tokenize", "Hello", "-m", arg(&path)])
        .failed(1, &["the model has no vocabulary", "--model"]);
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let mut command = program();
    command
        .args(["inspect", "--full"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}
