//! Any bytes are read as a GGUF file or refused: no panic, no memory beyond their size (run with `-rss_limit_mb`).
//!
//! `cargo +nightly fuzz run gguf fuzz/corpus/gguf tests/fixtures/qwen3moe -- -rss_limit_mb=512 -max_len=65536`

#![no_main]

use ggrs_model::gguf::{GgufFile, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = GgufFile::from_bytes("fuzz.gguf", bytes.to_vec()) else {
        return;
    };
    for (key, value) in file.metadata().iter() {
        std::hint::black_box((key, touch(value)));
    }
    let _ = file.metadata().require::<Vec<&str>>("tokenizer.ggml.tokens");
    let _ = file.metadata().require_per_layer::<u32>("a", 2);
    for entry in file.tensors() {
        std::hint::black_box(entry.n_elems());
        if let Ok(tensor) = file.tensor(entry.name()) {
            assert_eq!(Some(tensor.bytes.len()), entry.n_bytes());
            std::hint::black_box(tensor.bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
    }
});

fn touch(value: Value<'_>) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::Array(array) => array.iter().map(touch).sum(),
        _ => 1,
    }
}
