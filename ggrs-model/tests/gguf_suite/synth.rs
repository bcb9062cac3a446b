//! Synthetic models: their sizes against published ones, their tensors against real files, their values against the
//! spread they should have.

use std::collections::BTreeSet;
use std::io::{self, Write};

use ggrs_core::DType;
use ggrs_model::gguf::GgufFile;
use ggrs_model::synth::{self, Mix, Preset, SynthSpec, Vocab};

use super::chain;
use super::dequant::dequantize;

fn in_memory(spec: &SynthSpec) -> GgufFile {
    let (report, bytes) = synth::write_to(spec, Vec::new(), &mut |_, _| ()).unwrap();
    assert_eq!(report.file_bytes, bytes.len() as u64);
    assert_eq!(report, synth::describe(spec).unwrap());
    let file = GgufFile::from_bytes("synthetic.gguf", bytes).unwrap();
    assert_eq!(file.tensors().count(), report.n_tensors);
    assert_eq!(
        file.tensors().map(|t| t.n_elems() as u64).sum::<u64>(),
        report.n_params
    );
    file
}

fn n_params(preset: Preset) -> u64 {
    synth::describe(&SynthSpec::new(preset, Mix::Q4KM))
        .unwrap()
        .n_params
}

#[test]
fn real_presets_have_the_published_number_of_parameters() {
    assert_eq!(n_params(Preset::Qwen3Moe30b), 30_532_122_624);
    // "35B" and "26B", and a drafting layer of 0.8B in the former.
    let billions = |preset| n_params(preset) as f64 / 1e9;
    assert!(
        (35.0..36.0).contains(&billions(Preset::Qwen35Moe35b)),
        "{}",
        billions(Preset::Qwen35Moe35b)
    );
    assert!(
        (25.0..26.5).contains(&billions(Preset::Gemma4Moe26b)),
        "{}",
        billions(Preset::Gemma4Moe26b)
    );
}

#[test]
fn q4_k_m_files_have_the_size_of_real_ones() {
    // The published Q4_K_M file of Qwen3-30B-A3B has 18.56 GB.
    let report = synth::describe(&SynthSpec::new(Preset::Qwen3Moe30b, Mix::Q4KM)).unwrap();
    let error = report.file_bytes as f64 / 18.56e9 - 1.0;
    assert!(error.abs() < 0.005, "{} bytes", report.file_bytes);
    let dtypes: Vec<DType> = report
        .bytes_by_dtype
        .iter()
        .map(|(dtype, _)| *dtype)
        .collect();
    assert_eq!(dtypes, [DType::F32, DType::Q4_K, DType::Q6_K]);
}

/// Names of the tensors of one layer, without `blk.N.`.
fn layer_tensors(file: &GgufFile, layer: usize) -> BTreeSet<String> {
    let prefix = format!("blk.{layer}.");
    file.tensors()
        .filter_map(|t| t.name().strip_prefix(&prefix))
        .map(String::from)
        .collect()
}

fn names(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(String::from).collect()
}

#[test]
fn qwen3moe_has_the_tensors_and_keys_of_a_converted_model() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/qwen3moe/small-f32.gguf"
    );
    let real = GgufFile::open(path).unwrap();
    let made = in_memory(&SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Pure(DType::F32)));
    assert_eq!(layer_tensors(&made, 0), layer_tensors(&real, 0));
    let outside = |file: &GgufFile| -> BTreeSet<String> {
        file.tensors()
            .map(|t| t.name())
            .filter(|n| !n.starts_with("blk."))
            .map(String::from)
            .collect()
    };
    assert_eq!(outside(&made), outside(&real));
    for (key, value) in real
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with("qwen3moe."))
    {
        let made = made.metadata().value(key).map(|v| v.kind());
        assert_eq!(made, Some(value.kind()), "{key}");
    }
    // Axes mean the same: only their lengths differ.
    for entry in real.tensors().filter(|t| t.name().starts_with("blk.0.")) {
        let axes = made.tensor(entry.name()).unwrap().shape.len();
        assert_eq!(axes, entry.shape().len(), "{}", entry.name());
    }
    assert_eq!(
        made.tensor("blk.0.ffn_down_exps.weight").unwrap().shape,
        [8, 256, 256]
    );
    assert_eq!(
        made.tensor("blk.0.attn_output.weight").unwrap().shape,
        [256, 512]
    );
}

#[test]
fn qwen35moe_has_the_tensors_of_a_converted_model() {
    let file = in_memory(&SynthSpec::new(Preset::Qwen35MoeTiny, Mix::Q4KM));
    let experts = "ffn_down_exps.weight ffn_down_shexp.weight ffn_gate_exps.weight ffn_gate_inp.weight \
         ffn_gate_inp_shexp.weight ffn_gate_shexp.weight ffn_up_exps.weight ffn_up_shexp.weight attn_norm.weight \
         post_attention_norm.weight ";
    let recurrent = "attn_gate.weight attn_qkv.weight ssm_a ssm_alpha.weight ssm_beta.weight ssm_conv1d.weight \
         ssm_dt.bias ssm_norm.weight ssm_out.weight ";
    let attention = "attn_k.weight attn_k_norm.weight attn_output.weight attn_q.weight attn_q_norm.weight attn_v.weight ";
    let draft =
        "nextn.eh_proj.weight nextn.enorm.weight nextn.hnorm.weight nextn.shared_head_norm.weight ";
    assert_eq!(
        layer_tensors(&file, 0),
        names(&[experts, recurrent].concat())
    );
    assert_eq!(
        layer_tensors(&file, 3),
        names(&[experts, attention].concat())
    );
    assert_eq!(
        layer_tensors(&file, 4),
        names(&[experts, attention, draft].concat())
    );
    let keys = file.metadata();
    assert_eq!(keys.require::<u32>("qwen35moe.block_count").unwrap(), 5);
    assert_eq!(
        keys.require::<u32>("qwen35moe.nextn_predict_layers")
            .unwrap(),
        1
    );
    assert_eq!(
        keys.require::<Vec<bool>>("qwen35moe.attention.recurrent_layers")
            .unwrap(),
        [true, true, true, false, false]
    );
    assert_eq!(
        keys.require::<Vec<i32>>("qwen35moe.rope.dimension_sections")
            .unwrap(),
        [3, 3, 2, 0]
    );
    assert_eq!(
        file.tensor("blk.0.ssm_conv1d.weight").unwrap().shape,
        [512, 4]
    );
    assert_eq!(
        file.tensor("blk.3.attn_q.weight").unwrap().shape,
        [512, 256]
    );
    // As real files have it: one row, so one axis.
    assert_eq!(
        file.tensor("blk.0.ffn_gate_inp_shexp.weight")
            .unwrap()
            .shape,
        [256]
    );
}

#[test]
fn gemma4_has_the_tensors_of_a_converted_model() {
    let file = in_memory(&SynthSpec::new(Preset::Gemma4MoeTiny, Mix::Q4KM));
    let all = "attn_k.weight attn_k_norm.weight attn_norm.weight attn_output.weight attn_q.weight attn_q_norm.weight \
         ffn_down.weight ffn_down_exps.scale ffn_down_exps.weight ffn_gate.weight ffn_gate_inp.scale \
         ffn_gate_inp.weight ffn_gate_up_exps.weight ffn_norm.weight ffn_up.weight layer_output_scale.weight \
         post_attention_norm.weight post_ffw_norm.weight post_ffw_norm_1.weight post_ffw_norm_2.weight \
         pre_ffw_norm_2.weight ";
    assert_eq!(
        layer_tensors(&file, 0),
        names(&[all, "attn_v.weight"].concat())
    );
    assert_eq!(layer_tensors(&file, 5), names(all));
    let keys = file.metadata();
    let pattern: Vec<bool> = keys
        .require("gemma4.attention.sliding_window_pattern")
        .unwrap();
    assert_eq!(pattern, [true, true, true, true, true, false]);
    assert_eq!(
        keys.require_per_layer::<u32>("gemma4.attention.head_count_kv", 6)
            .unwrap(),
        [2, 2, 2, 2, 2, 1]
    );
    assert!(!file.has_tensor("output.weight"));
    assert_eq!(file.tensor("token_embd.weight").unwrap().dtype, DType::Q6_K);
    assert_eq!(
        file.tensor("blk.0.ffn_gate_up_exps.weight").unwrap().shape,
        [8, 512, 256]
    );
    let factors = dequantize(DType::F32, file.tensor("rope_freqs.weight").unwrap().bytes);
    assert_eq!(factors.len(), 64);
    assert!(
        factors
            .iter()
            .enumerate()
            .all(|(i, f)| *f == if i < 16 { 1.0 } else { f64::from(1e30f32) })
    );
}

#[test]
fn weights_of_every_dtype_have_the_spread_they_should() {
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_int()) {
        let file = in_memory(&SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Pure(dtype)));
        let output = file.tensor("output.weight").unwrap();
        assert_eq!(output.dtype, dtype);
        let values = dequantize(dtype, output.bytes);
        assert!(values.iter().all(|v| v.is_finite()), "{dtype}");
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let expected = 2.0 / 256f64.sqrt();
        // A scale that is a power of two can miss by half an octave. 4-bit codes without a minimum run from -8 to 7.
        let tolerance = if dtype == DType::MXFP4 { 0.42 } else { 0.04 };
        assert!(
            (std / expected - 1.0).abs() < tolerance,
            "{dtype}: std {std}, expected {expected}"
        );
        assert!((mean / std).abs() < 0.12, "{dtype}: mean {mean}, std {std}");
    }
}

#[test]
fn every_preset_and_mix_gives_a_valid_finite_model() {
    for preset in [
        Preset::Qwen3MoeTiny,
        Preset::Qwen35MoeTiny,
        Preset::Gemma4MoeTiny,
    ] {
        for mix in Mix::all() {
            let file = in_memory(&SynthSpec {
                n_layers: Some(1),
                ..SynthSpec::new(preset, mix)
            });
            for entry in file.tensors() {
                let tensor = file.tensor(entry.name()).unwrap();
                let is_finite = dequantize(tensor.dtype, tensor.bytes)
                    .iter()
                    .all(|v| v.is_finite());
                assert!(
                    is_finite,
                    "{} {}: {}",
                    preset.name(),
                    mix.name(),
                    entry.name()
                );
            }
        }
    }
}

#[test]
fn experts_and_tensors_differ() {
    let file = in_memory(&SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Q4KM));
    let experts = file.tensor("blk.0.ffn_up_exps.weight").unwrap().bytes;
    let distinct: BTreeSet<&[u8]> = experts.chunks_exact(experts.len() / 8).collect();
    assert_eq!(distinct.len(), 8);
    assert_ne!(
        experts,
        file.tensor("blk.0.ffn_gate_exps.weight").unwrap().bytes
    );
    assert_ne!(
        experts,
        file.tensor("blk.1.ffn_up_exps.weight").unwrap().bytes
    );
}

#[test]
fn equal_specifications_give_equal_bytes_and_other_seeds_do_not() {
    let spec = SynthSpec::new(Preset::Qwen35MoeTiny, Mix::Q4KM);
    let bytes = |spec: &SynthSpec| synth::write_to(spec, Vec::new(), &mut |_, _| ()).unwrap().1;
    assert_eq!(bytes(&spec), bytes(&spec));
    assert_ne!(bytes(&spec), bytes(&SynthSpec { seed: 1, ..spec }));
}

#[test]
fn a_dummy_vocabulary_has_a_token_for_every_byte_and_every_id() {
    let file = in_memory(&SynthSpec {
        vocab: Vocab::Dummy,
        ..SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Q4KM)
    });
    let keys = file.metadata();
    let tokens: Vec<&str> = keys.require("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.len(), 512);
    assert_eq!(
        tokens.iter().collect::<BTreeSet<_>>().len(),
        512,
        "no token twice"
    );
    // GPT-2's characters: '!' for 33, 'ÿ' for 255, then 'Ā' for 0, 'Ċ' for the line feed, 'Ġ' for the space.
    assert_eq!(
        (
            tokens[0],
            tokens[187],
            tokens[188],
            tokens[198],
            tokens[220],
            tokens[255]
        ),
        ("!", "ÿ", "Ā", "Ċ", "Ġ", "Ń")
    );
    assert_eq!((tokens[256], tokens[511]), ("Ġt0", "<|endoftext|>"));
    assert_eq!(
        keys.require::<u32>("tokenizer.ggml.eos_token_id").unwrap(),
        511
    );
    assert_eq!(
        keys.require::<Vec<i32>>("tokenizer.ggml.token_type")
            .unwrap()
            .len(),
        512
    );

    let without = in_memory(&SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Q4KM));
    assert_eq!(
        without
            .metadata()
            .require::<&str>("tokenizer.ggml.model")
            .unwrap(),
        "no_vocab"
    );
    assert_eq!(
        without
            .metadata()
            .require::<u32>("qwen3moe.vocab_size")
            .unwrap(),
        512
    );
}

#[test]
fn a_file_is_written_with_progress_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, b"what was there before").unwrap();
    let spec = SynthSpec::new(Preset::Gemma4MoeTiny, Mix::Q4KM);
    let mut steps = Vec::new();
    let report = synth::write(&spec, &path, &mut |done, total| steps.push((done, total))).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), report.file_bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let weights: u64 = report.bytes_by_dtype.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(steps.last(), Some(&(weights, weights)));
    assert!(steps.is_sorted() && steps.iter().all(|(_, total)| *total == weights));
    assert_eq!(
        GgufFile::open(&path).unwrap().tensors().count(),
        report.n_tensors
    );
}

#[test]
fn what_cannot_be_written_is_said() {
    let spec = SynthSpec::new(Preset::Qwen3MoeTiny, Mix::Q4KM);
    for (n_layers, found) in [(0, "0"), (1025, "1025")] {
        let spec = SynthSpec {
            n_layers: Some(n_layers),
            ..spec
        };
        let expected = format!("a synthetic model can have 1 to 1024 layers, found {found}");
        assert_eq!(chain(&synth::describe(&spec).unwrap_err()), expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/such/dir/m.gguf");
    assert_eq!(
        chain(&synth::write(&spec, &path, &mut |_, _| ()).unwrap_err()),
        format!(
            "cannot create {} | No such file or directory (os error 2)",
            path.display()
        )
    );
    assert_eq!(
        "gpt-5".parse::<Preset>().unwrap_err().to_string(),
        "unknown preset 'gpt-5'; expected one of qwen3-30b-a3b, qwen3moe-small, qwen3moe-tiny, qwen3.6-35b-a3b, \
         qwen35moe-small, qwen35moe-tiny, gemma-4-26b-a4b, gemma4moe-small, gemma4moe-tiny"
    );
    assert_eq!(
        "big".parse::<Vocab>().unwrap_err().to_string(),
        "unknown vocabulary 'big'; expected one of none, dummy"
    );

    /// A disk that is full after some bytes.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::Error::from(io::ErrorKind::StorageFull))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = synth::write_to(&spec, Full(100_000), &mut |_, _| ())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        chain(&error),
        "cannot write the synthetic model | cannot write the file | no storage space"
    );
}
