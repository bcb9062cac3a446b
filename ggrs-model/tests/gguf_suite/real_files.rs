//! Files that llama.cpp's converter and quantizer wrote. What is expected was read off them by another program.

use std::collections::BTreeMap;

use ggrs_core::DType;
use ggrs_model::gguf::{GgufFile, Value};

const DEMO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ggrs-cli/assets/demo-q8_0.gguf"
);
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/qwen3moe");

fn fixture(name: &str) -> GgufFile {
    GgufFile::open(format!("{FIXTURES}/{name}.gguf")).unwrap()
}

#[test]
fn keys_of_the_demo_model() {
    let file = GgufFile::open(DEMO).unwrap();
    let keys = file.metadata();
    assert_eq!(
        (file.version(), keys.len(), file.file_bytes()),
        (3, 28, 8_448_352)
    );
    assert_eq!(
        keys.require::<&str>("general.architecture").unwrap(),
        "qwen3moe"
    );
    assert_eq!(keys.require::<u32>("qwen3moe.block_count").unwrap(), 4);
    assert_eq!(
        keys.require::<f32>("qwen3moe.attention.layer_norm_rms_epsilon")
            .unwrap(),
        1e-6
    );
    assert_eq!(
        keys.require::<f32>("qwen3moe.rope.freq_base").unwrap(),
        10_000.0
    );
    assert!(
        !keys
            .require::<bool>("tokenizer.ggml.add_bos_token")
            .unwrap()
    );
    let tokens: Vec<&str> = keys.require("tokenizer.ggml.tokens").unwrap();
    assert_eq!(
        (tokens.len(), tokens[0], tokens[1000], tokens[1535]),
        (1536, "!", "ĠBhutan", "<|im_end|>")
    );
    let merges: Vec<&str> = keys.require("tokenizer.ggml.merges").unwrap();
    assert_eq!(
        (merges.len(), merges[0], merges[1276]),
        (1277, "i s", "Ġmatri x")
    );
    let types: Vec<i32> = keys.require("tokenizer.ggml.token_type").unwrap();
    assert_eq!((types.len(), types[0], types[1535]), (1536, 1, 3));
}

#[test]
fn tensors_of_the_demo_model() {
    let file = GgufFile::open(DEMO).unwrap();
    assert_eq!(file.tensors().count(), 51);
    let last = file.tensors().last().unwrap();
    assert_eq!(
        (last.name(), last.offset()),
        ("blk.3.ffn_up_exps.weight", 7_891_296)
    );
    assert_eq!(
        last.offset() + last.n_bytes().unwrap() as u64,
        file.file_bytes()
    );

    let embedding = file.tensor("token_embd.weight").unwrap();
    assert_eq!(
        (embedding.dtype, embedding.shape),
        (DType::Q8_0, &[1536, 256][..])
    );
    assert_eq!(embedding.bytes.len(), 1536 * 8 * 34);
    assert_eq!(
        embedding.bytes[..8],
        [0xb9, 0x15, 0x2b, 0x17, 0xe6, 0xeb, 0x3f, 0x27]
    );
    let experts = file.tensor("blk.3.ffn_down_exps.weight").unwrap();
    assert_eq!(
        (experts.dtype, experts.shape),
        (DType::Q8_0, &[8, 256, 256][..])
    );
    assert_eq!(
        experts.bytes[..8],
        [0xa4, 0x14, 0xd9, 0x02, 0x1b, 0xae, 0x0c, 0x81]
    );
    let norm = file.tensor("blk.0.attn_q_norm.weight").unwrap();
    assert_eq!((norm.dtype, norm.shape), (DType::F32, &[64][..]));
    assert_eq!(
        norm.bytes[..8],
        [0x00, 0x60, 0x8c, 0x3f, 0x00, 0x40, 0x84, 0x3f]
    );
}

#[test]
fn dtypes_of_the_fixtures() {
    // From the table in the fixtures' README.
    let cases: [(&str, &[(&str, usize)]); 4] = [
        ("small-f32", &[("F32", 51)]),
        ("small-q8_0", &[("Q8_0", 30), ("F32", 21)]),
        (
            "small-mix32",
            &[
                ("Q4_1", 3),
                ("F32", 23),
                ("IQ4_NL", 4),
                ("Q4_0", 3),
                ("Q8_0", 4),
                ("Q5_0", 3),
                ("BF16", 4),
                ("MXFP4", 2),
                ("Q5_1", 3),
                ("F16", 2),
            ],
        ),
        (
            "k-kmix",
            &[
                ("Q5_K", 2),
                ("F32", 11),
                ("Q3_K", 2),
                ("Q4_K", 3),
                ("Q6_K", 3),
                ("IQ4_XS", 1),
                ("Q2_K", 2),
                ("Q8_0", 1),
                ("MXFP4", 1),
                ("IQ4_NL", 1),
            ],
        ),
    ];
    for (name, expected) in cases {
        let file = fixture(name);
        let mut counts = BTreeMap::new();
        for entry in file.tensors() {
            let tensor = file.tensor(entry.name()).unwrap();
            assert_eq!(tensor.bytes.len(), entry.n_bytes().unwrap());
            assert_eq!(
                tensor.bytes.as_ptr() as usize % 32,
                0,
                "mapped data keeps the file's alignment"
            );
            *counts.entry(tensor.dtype.name()).or_insert(0) += 1;
        }
        assert_eq!(
            counts,
            expected.iter().copied().collect::<BTreeMap<_, _>>(),
            "{name}"
        );
    }
}

#[test]
fn expert_tensors_of_the_k_quant_fixture() {
    let file = fixture("k-kmix");
    let experts = file.tensor("blk.0.ffn_down_exps.weight").unwrap();
    assert_eq!(
        (experts.dtype, experts.shape),
        (DType::IQ4_XS, &[6, 256, 256][..])
    );
    assert_eq!(
        experts.bytes[..8],
        [0xbb, 0x04, 0x0c, 0xf3, 0x00, 0x1c, 0xc2, 0x17]
    );
    let entry = file
        .tensors()
        .find(|t| t.name() == "output.weight")
        .unwrap();
    assert_eq!((entry.offset(), entry.shape()), (14_944, &[416, 256][..]));
    assert_eq!(
        file.metadata().value("general.file_type"),
        Some(Value::U32(15))
    );
}

#[test]
fn a_file_in_memory_reads_as_the_same_file_on_disk() {
    let mapped = GgufFile::open(DEMO).unwrap();
    let in_memory = GgufFile::from_bytes("demo", std::fs::read(DEMO).unwrap()).unwrap();
    assert_eq!(
        mapped.metadata().iter().count(),
        in_memory.metadata().iter().count()
    );
    assert!(mapped.metadata().iter().eq(in_memory.metadata().iter()));
    assert!(mapped.tensors().eq(in_memory.tensors()));
    for entry in mapped.tensors() {
        assert_eq!(
            mapped.tensor(entry.name()).unwrap().bytes,
            in_memory.tensor(entry.name()).unwrap().bytes
        );
    }
}

#[test]
fn a_file_is_shared_between_threads() {
    let file = fixture("small-f32");
    let first_byte = |file: GgufFile| file.tensor("output.weight").unwrap().bytes[2];
    let clone = file.clone();
    assert_eq!(
        std::thread::spawn(move || first_byte(clone))
            .join()
            .unwrap(),
        0xa7
    );
    assert_eq!(first_byte(file), 0xa7);
}
