//! Files that are no model, or a damaged one: each gives an error that names the file and the fault, and status 1.

use std::path::Path;

use ggrs_core::DType;

use crate::broken_model::{Fault, after_tensor_name, good_bytes, with};
use crate::process::{arg, ggrs};

/// Every command that opens a model says the same of this file.
#[track_caller]
fn refused(bytes: &[u8], said: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    std::fs::write(&path, bytes).unwrap();
    let mut said = said.to_vec();
    said.push("bad.gguf");
    let output = folder.path().join("out.npy");
    for args in [
        vec!["run", arg(&path), "Hello", "-n", "1"],
        vec!["chat", arg(&path)],
        vec!["bench", arg(&path)],
        vec!["logits", "--ids", "1", "-m", arg(&path), "-o", arg(&output)],
        vec![
            "perplexity",
            arg(&fixture_text(folder.path())),
            "-m",
            arg(&path),
        ],
    ] {
        ggrs(&args).failed(1, &said);
    }
    assert!(!output.exists());
}

/// Files whose bytes are wrong are refused by `inspect` too.
#[track_caller]
fn unreadable(bytes: &[u8], said: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    std::fs::write(&path, bytes).unwrap();
    ggrs(["inspect", arg(&path)]).failed(1, said);
    refused(bytes, said);
}

fn fixture_text(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("text.txt");
    std::fs::write(&path, "some text").unwrap();
    path
}

#[test]
fn a_missing_file() {
    ggrs(["run", "/nowhere/model.gguf", "Hello"]).failed(
        1,
        &[
            "cannot open /nowhere/model.gguf",
            "\n  caused by: No such file",
        ],
    );
    ggrs(["inspect", "/nowhere/model.gguf"]).failed(1, &["cannot open /nowhere/model.gguf"]);
}

#[test]
fn a_directory() {
    let folder = tempfile::tempdir().unwrap();
    ggrs(["run", arg(folder.path()), "Hello"])
        .failed(1, &[arg(folder.path()), "is not a regular file"]);
}

#[test]
fn an_empty_file() {
    unreadable(b"", &["the file is empty"]);
}

#[test]
fn a_truncated_file() {
    let bytes = good_bytes();
    unreadable(
        &bytes[..10],
        &["the file ends inside the header", "truncated"],
    );
    unreadable(
        &bytes[..1000],
        &[
            "error at byte 8",
            "the header declares 51 tensors",
            "truncated",
        ],
    );
    unreadable(
        &bytes[..15_000],
        &[
            "the file ends inside the name of tensor number 28",
            "truncated",
        ],
    );
    unreadable(
        &bytes[..bytes.len() / 2],
        &[
            "the data of tensor 'blk.",
            "the file has 198928 bytes",
            "truncated",
        ],
    );
}

#[test]
fn a_wrong_magic() {
    let mut bytes = good_bytes();
    bytes[..4].copy_from_slice(b"GGML");
    unreadable(
        &bytes,
        &[
            "error at byte 0",
            "expected the magic bytes 'GGUF', found 'GGML'",
        ],
    );
    unreadable(
        b"version https://git-lfs.github.com/spec/v1",
        &["git lfs pull"],
    );
}

#[test]
fn a_wrong_version() {
    let mut bytes = good_bytes();
    bytes[4] = 99;
    unreadable(
        &bytes,
        &["error at byte 4", "expected GGUF version 2 or 3, found 99"],
    );
}

#[test]
fn a_big_endian_file() {
    let mut bytes = good_bytes();
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    unreadable(
        &bytes,
        &["the file is big-endian", "gguf_convert_endian.py"],
    );
}

#[test]
fn lying_counts_and_sizes() {
    let mut bytes = good_bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    unreadable(
        &bytes,
        &[
            "the header declares 18446744073709551615 tensors",
            "can hold at most",
        ],
    );

    let mut bytes = good_bytes();
    bytes[16..24].copy_from_slice(&(1u64 << 40).to_le_bytes());
    unreadable(&bytes, &["the header declares 1099511627776"]);

    // The length of the first key's name.
    let mut bytes = good_bytes();
    bytes[24..32].copy_from_slice(&(1u64 << 50).to_le_bytes());
    unreadable(
        &bytes,
        &[
            "error at byte 32",
            "the file ends inside the name of metadata key number 0",
        ],
    );

    // The first axis of a tensor, after its number of axes.
    let mut bytes = good_bytes();
    let at = after_tensor_name(&bytes, "blk.0.attn_q.weight") + 4;
    bytes[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    unreadable(
        &bytes,
        &[
            "tensor 'blk.0.attn_q.weight'",
            "more bytes than can be addressed",
        ],
    );

    let mut bytes = good_bytes();
    let at = after_tensor_name(&bytes, "blk.0.attn_q.weight") + 4;
    bytes[at..at + 8].copy_from_slice(&(1u64 << 30).to_le_bytes());
    unreadable(
        &bytes,
        &[
            "the data of tensor 'blk.0.attn_q.weight' ends at byte",
            "397856 bytes",
        ],
    );
}

#[test]
fn an_unknown_architecture_is_refused_but_listed() {
    let bytes = with(&Fault {
        text: Some(("general.architecture", "mamba")),
        ..Fault::default()
    });
    refused(
        &bytes,
        &["architecture \"mamba\" is not supported; supported: qwen3moe"],
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mamba.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let text = ggrs(["inspect", arg(&path)]).succeeded().stdout;
    assert!(
        text.contains("general.architecture (string) = \"mamba\""),
        "{text}"
    );
    // Its vocabulary is that of a model that is known.
    let text = ggrs(["tokenize", "the list", "-m", arg(&path)])
        .succeeded()
        .stdout;
    assert!(text.contains("\" l\""), "{text}");
}

#[test]
fn a_missing_key() {
    let without = |key| {
        with(&Fault {
            without_key: Some(key),
            ..Fault::default()
        })
    };
    refused(
        &without("qwen3moe.block_count"),
        &["key 'qwen3moe.block_count' is missing"],
    );
    refused(
        &without("qwen3moe.expert_count"),
        &["key 'qwen3moe.expert_count' is missing"],
    );
    refused(
        &without("general.architecture"),
        &["key 'general.architecture' is missing"],
    );
}

#[test]
fn a_key_with_an_impossible_value() {
    let with_number = |key, number| {
        with(&Fault {
            number: Some((key, number)),
            ..Fault::default()
        })
    };
    refused(
        &with_number("qwen3moe.expert_used_count", 9),
        &[
            "qwen3moe.expert_used_count = 9 is not possible: it must be from 1 to the number of experts",
        ],
    );
    refused(
        &with_number("qwen3moe.attention.head_count", 0),
        &["qwen3moe.attention.head_count = 0"],
    );
    let text = with(&Fault {
        text: Some(("qwen3moe.block_count", "four")),
        ..Fault::default()
    });
    refused(
        &text,
        &["key 'qwen3moe.block_count' should hold u64, found string"],
    );
}

#[test]
fn a_wrong_tensor_shape() {
    let bytes = with(&Fault {
        tensor: Some(("blk.1.attn_q.weight", DType::Q8_0, &[64, 128])),
        ..Fault::default()
    });
    refused(
        &bytes,
        &[
            "tensor \"blk.1.attn_q.weight\" has shape [64, 128], the model's metadata implies [128, 64]",
        ],
    );
}

#[test]
fn a_wrong_tensor_dtype() {
    let bytes = with(&Fault {
        tensor: Some(("blk.1.attn_q.weight", DType::I32, &[128, 64])),
        ..Fault::default()
    });
    refused(
        &bytes,
        &["tensor \"blk.1.attn_q.weight\" has type I32, it must be a float or block format"],
    );
}

#[test]
fn an_unsupported_tensor_type_is_refused_but_listed() {
    // A tensor of 64 floats of 4 bytes as one of 64 integers of a type that GGRS does not compute with.
    let mut bytes = good_bytes();
    let at = after_tensor_name(&bytes, "blk.1.attn_norm.weight") + 4 + 8;
    assert_eq!(bytes[at..at + 4], 0u32.to_le_bytes());
    bytes[at..at + 4].copy_from_slice(&25u32.to_le_bytes());
    refused(
        &bytes,
        &[
            "tensor 'blk.1.attn_norm.weight' has the unsupported ggml type 'I16' (id 25)",
            "quantize the model",
        ],
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i16.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let listed = ggrs(["inspect", "--json", arg(&path)]).json();
    assert_eq!(listed["by_dtype"]["I16"]["bytes"], 128);
}

#[test]
fn a_missing_tensor() {
    let bytes = with(&Fault {
        without_tensor: Some("blk.2.ffn_up_exps.weight"),
        ..Fault::default()
    });
    refused(
        &bytes,
        &["tensor 'blk.2.ffn_up_exps.weight' is not among the 50 tensors"],
    );
}

#[test]
fn a_vocabulary_that_is_not_understood() {
    let bytes = with(&Fault {
        text: Some(("tokenizer.ggml.pre", "klingon")),
        ..Fault::default()
    });
    refused(
        &bytes,
        &[
            "the tokenizer cannot be built",
            "pre-tokenizer `klingon` is not supported",
        ],
    );
}
