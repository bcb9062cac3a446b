//! The row conversions against values and bytes that GGRS did not compute: gguf-py's dequantisation of the op fixtures,
//! and ggml's reference quantisers.

#![allow(
    clippy::expect_used,
    reason = "a fixture or problem that is broken fails its test"
)]

use std::path::Path;

use ggrs_core::DType;
use ggrs_cpu::formats::{FormatError, can_quantize, dequantize_row, quantize_row};

/// The op fixtures of row gathering: a safetensors file, whose header has one entry for each tensor.
struct Fixture {
    header: String,
    data: Vec<u8>,
}

impl Fixture {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/ops/GET_ROWS.safetensors");
        let mut bytes = std::fs::read(path).expect("the fixture");
        let n = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let data = bytes.split_off(8 + n);
        Self {
            header: String::from_utf8(bytes[8..].to_vec()).expect("a JSON header"),
            data,
        }
    }

    /// The bytes of a tensor, by the offsets in its header entry.
    fn tensor(&self, name: &str) -> &[u8] {
        let entry = self
            .header
            .split_once(&format!("\"{name}\":"))
            .expect(name)
            .1;
        let offsets = entry.split_once("\"data_offsets\":[").expect("offsets").1;
        let (start, rest) = offsets.split_once(',').expect("two offsets");
        let end = rest.split_once(']').expect("two offsets").0;
        &self.data[start.trim().parse().expect("a number")..end.trim().parse().expect("a number")]
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")))
        .collect()
}

/// Case, dtype, width and row count of the source; every case whose dtype GGRS has.
const CASES: [(&str, DType, usize); 39] = [
    ("0000", DType::F32, 256),
    ("0001", DType::F16, 256),
    ("0002", DType::Q4_0, 256),
    ("0003", DType::Q4_1, 256),
    ("0004", DType::Q5_0, 256),
    ("0005", DType::Q5_1, 256),
    ("0006", DType::Q8_0, 256),
    ("0007", DType::Q2_K, 256),
    ("0008", DType::Q3_K, 256),
    ("0009", DType::Q4_K, 256),
    ("0010", DType::Q5_K, 256),
    ("0011", DType::Q6_K, 256),
    ("0012", DType::IQ4_NL, 256),
    ("0013", DType::IQ4_XS, 256),
    ("0014", DType::BF16, 256),
    ("0015", DType::MXFP4, 256),
    ("0017", DType::F32, 1),
    ("0018", DType::Q2_K, 256),
    ("0019", DType::Q2_K, 256),
    ("0020", DType::IQ4_XS, 256),
    ("0021", DType::IQ4_XS, 256),
    ("0022", DType::IQ4_NL, 256),
    ("0023", DType::IQ4_NL, 256),
    ("0024", DType::Q4_1, 256),
    ("0025", DType::Q4_1, 256),
    ("0026", DType::Q5_0, 256),
    ("0027", DType::Q5_0, 256),
    ("0028", DType::Q5_K, 256),
    ("0029", DType::Q5_K, 256),
    ("0030", DType::Q8_0, 256),
    ("0031", DType::Q8_0, 256),
    ("0032", DType::Q2_K, 256),
    ("0033", DType::Q2_K, 256),
    ("0034", DType::F16, 256),
    ("0035", DType::F16, 256),
    ("0036", DType::BF16, 256),
    ("0037", DType::BF16, 256),
    ("0038", DType::IQ4_XS, 256),
    ("0039", DType::IQ4_XS, 256),
];

#[test]
fn every_format_reads_as_the_reference_does() {
    let fixture = Fixture::read();
    for (id, dtype, width) in CASES {
        let source = fixture.tensor(&format!("{id}.src0"));
        let rows = fixture.tensor(&format!("{id}.src1"));
        let expected = floats(fixture.tensor(&format!("{id}.dst")));
        let row_bytes = dtype.row_bytes(width).expect("whole blocks");
        let mut found = vec![f32::NAN; width];
        assert_eq!(expected.len(), rows.len() / 4 * width, "{id}");
        for (row, expected) in rows.chunks_exact(4).zip(expected.chunks_exact(width)) {
            let row = i32::from_le_bytes(row.try_into().expect("4 bytes")) as usize;
            dequantize_row(dtype, &source[row * row_bytes..][..row_bytes], &mut found)
                .expect("a valid row");
            for (e, (f, x)) in found.iter().zip(expected).enumerate() {
                assert!(
                    f.to_bits() == x.to_bits(),
                    "case {id} ({dtype}) row {row} element {e}: {f} is not {x}"
                );
            }
        }
    }
}

/// 64 values: a wave of growing size, then a block with an offset, negative zeros, ties and a lone outlier.
fn sample() -> Vec<f32> {
    let mut values: Vec<f32> = (0..32)
        .map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.03125 * (1.0 + i as f32 / 8.0))
        .collect();
    values.extend((0..32).map(|i| match i {
        0 => -0.0,
        1 => 0.5,
        2 => -7.5,
        3 => 1.0e-6,
        _ => 2.0 + (i * 11 % 17) as f32 / 16.0,
    }));
    values
}

/// What ggml's `quantize_row_*_ref` make of [`sample`].
const QUANTISED: [(DType, &str); 6] = [
    (
        DType::Q8_0,
        "3928e206e714f027fecd10db27ed4304be1fd440ef650fb334d25df6891fad4dd57f8f2b000881002c26322b25312a243029232f28222e27332c26322b25312a24302923",
    ),
    (
        DType::Q4_0,
        "30b8ba489a2779d658bb279af669d438bc06803bb8a9b0a8bbbaabbbbaabbbbaabbbbaab",
    ),
    (
        DType::Q4_1,
        "5338d6c355b866d8863aa744d8750a962bc753f99a3980c7ebebf0ebfeeeeffeeeeffeeeeffeeeef",
    ),
    (
        DType::Q5_0,
        "30b4d56aa556648f233de2aba0664e15fbc2a760580c8037fbffffff50416050666556655556655556655446",
    ),
    (
        DType::Q5_1,
        "2f34d6c32a955aa99b70dcc21d545f99b1ea043d479fa7f36b3580c7fbffffffd6c8e0d6feeddffeeddffeecceeddcce",
    ),
    (
        DType::IQ4_NL,
        "45a8ba379a1679d548cc269bf55ae328bd05802bb8b9c0b8cbbbbccbbbbccbbbbccbbbbc",
    ),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn values_are_rounded_as_the_reference_quantisers_round() {
    for (dtype, expected) in QUANTISED {
        let values = sample();
        let mut bytes = vec![0; dtype.row_bytes(values.len()).expect("whole blocks")];
        quantize_row(dtype, &values, &mut bytes).expect("a writable dtype");
        assert_eq!(hex(&bytes), expected, "{dtype}");
    }
}

#[test]
fn what_is_written_reads_back_within_half_a_step() {
    let values: Vec<f32> = (0..256)
        .map(|i| ((i * 73 % 256) as f32 - 128.0) / 64.0)
        .collect();
    // The largest step of each format for values in -2..2, relative to 4.
    let steps = [
        (DType::F32, 0.0),
        (DType::F16, 1.0 / 1024.0),
        (DType::BF16, 1.0 / 128.0),
        (DType::Q8_0, 1.0 / 254.0),
        (DType::Q4_0, 1.0 / 8.0),
        (DType::Q4_1, 1.0 / 15.0),
        (DType::Q5_0, 1.0 / 16.0),
        (DType::Q5_1, 1.0 / 31.0),
        (DType::IQ4_NL, 1.0 / 8.0),
    ];
    for (dtype, step) in steps {
        assert!(can_quantize(dtype));
        let mut bytes = vec![0; dtype.row_bytes(values.len()).expect("whole blocks")];
        quantize_row(dtype, &values, &mut bytes).expect("a writable dtype");
        let mut back = vec![0.0; values.len()];
        dequantize_row(dtype, &bytes, &mut back).expect("a readable dtype");
        for (x, y) in values.iter().zip(&back) {
            assert!(
                (x - y).abs() <= 4.0 * step * 0.51 + step * step,
                "{dtype}: {x} became {y}"
            );
        }
    }
}

#[test]
fn special_values_survive_in_the_float_formats() {
    let values = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        1.0e-40,
        f32::MAX,
    ];
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let mut bytes = vec![0; dtype.row_bytes(values.len()).expect("scalars")];
        quantize_row(dtype, &values, &mut bytes).expect("a float");
        let mut back = [1.0; 6];
        dequantize_row(dtype, &bytes, &mut back).expect("a float");
        assert!(back[0].is_nan(), "{dtype}");
        assert_eq!(back[1..3], [f32::INFINITY, f32::NEG_INFINITY], "{dtype}");
        assert_eq!(back[3].to_bits(), (-0.0_f32).to_bits(), "{dtype}");
        assert!(back[5] >= f32::MAX, "{dtype}: {}", back[5]);
    }
}

#[test]
fn wrong_lengths_and_dtypes_are_errors() {
    let mut out = [0.0; 100];
    assert_eq!(
        dequantize_row(DType::Q4_K, &[0; 144], &mut out),
        Err(FormatError::PartialBlock {
            dtype: DType::Q4_K,
            n_elems: 100,
            block_elems: 256
        })
    );
    assert_eq!(
        dequantize_row(DType::F16, &[0; 144], &mut out),
        Err(FormatError::Length {
            dtype: DType::F16,
            n_elems: 100,
            expected_bytes: 200,
            found_bytes: 144
        })
    );
    assert_eq!(
        dequantize_row(DType::I32, &[0; 400], &mut out),
        Err(FormatError::NotFloat { dtype: DType::I32 })
    );
    let error = quantize_row(DType::Q6_K, &[0.0; 256], &mut [0; 210]).expect_err("not writable");
    assert_eq!(error, FormatError::NotWritable { dtype: DType::Q6_K });
    assert!(error.to_string().contains("Q8_0"), "{error}");
}
