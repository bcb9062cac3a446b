//! Every way in which a file can be wrong, and the exact words for it.

use ggrs_model::gguf::GgufFile;

use super::chain;
use super::raw::{ARRAY, BOOL, F32, Q8_0, Raw, STRING, U8, U32};

/// The error that a file gives, after the part that all format errors share.
#[track_caller]
fn format_error(raw: &Raw, offset: usize) -> String {
    let error = GgufFile::from_bytes("m.gguf", raw.0.clone())
        .map(|_| ())
        .unwrap_err();
    let text = chain(&error);
    let prefix = format!("m.gguf is not a valid GGUF file: error at byte {offset} | ");
    match text.strip_prefix(&prefix) {
        Some(rest) => rest.into(),
        None => panic!("expected '{prefix}...', found '{text}'"),
    }
}

#[test]
fn a_file_that_is_not_gguf() {
    assert_eq!(
        format_error(&Raw(vec![]), 0),
        "the file is empty; if it was downloaded, the download failed"
    );
    assert_eq!(
        format_error(&Raw(b"GG".to_vec()), 0),
        "the file ends inside the header: 4 more bytes are needed and 2 are left; the file is truncated or damaged"
    );
    let cases: [(&[u8], &str); 6] = [
        (
            b"\x00abcdefg",
            "expected the magic bytes 'GGUF', found '\\x00abc'",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "expected the magic bytes 'GGUF', found 'vers'; this looks like a Git LFS pointer: run 'git lfs pull'",
        ),
        (
            b"tjgg\x03\x00\x00\x00",
            "expected the magic bytes 'GGUF', found 'tjgg'; this is a model in a format before GGUF: \
             convert the model again",
        ),
        (
            b"PK\x03\x04\x00\x00",
            "expected the magic bytes 'GGUF', found 'PK\\x03\\x04'; this looks like a PyTorch checkpoint: \
             convert it to GGUF first",
        ),
        (
            b"<!DOCTYPE html>",
            "expected the magic bytes 'GGUF', found '<!DO'; this looks like a web page: the download failed",
        ),
        (
            b"gguf\x03\x00\x00\x00",
            "expected the magic bytes 'GGUF', found 'gguf'",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(format_error(&Raw(bytes.to_vec()), 0), expected);
    }
}

#[test]
fn a_version_that_is_not_read() {
    let with_version = |version: u32| Raw(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
    assert_eq!(
        format_error(&with_version(3u32.swap_bytes()), 4),
        "the file is big-endian (version 3), and only little-endian files are read; \
         convert it with gguf_convert_endian.py of llama.cpp"
    );
    for version in [0, 1, 4] {
        assert_eq!(
            format_error(&with_version(version), 4),
            format!(
                "expected GGUF version 2 or 3, found {version}; convert the model again with a current converter"
            )
        );
    }
    for version in [2, 3] {
        let file = GgufFile::from_bytes("m.gguf", with_version(version).0).unwrap();
        assert_eq!(
            (
                file.version(),
                file.metadata().len(),
                file.tensors().count()
            ),
            (version, 0, 0)
        );
    }
}

#[test]
fn counts_beyond_the_end() {
    assert_eq!(
        format_error(&Raw::new(u64::MAX, 0), 8),
        "the header declares 18446744073709551615 tensors, but the rest of the file can hold at most 0; \
         the file is truncated or damaged"
    );
    assert_eq!(
        format_error(&Raw::new(0, 1 << 40).bytes(&[0; 130]), 16),
        "the header declares 1099511627776 metadata keys, but the rest of the file can hold at most 10; \
         the file is truncated or damaged"
    );
    assert_eq!(
        format_error(
            &Raw::new(0, 1)
                .key("big", ARRAY)
                .u32(STRING)
                .u64(1 << 60)
                .bytes(&[0; 80]),
            43
        ),
        "the value of metadata key 'big' declares 1152921504606846976 array elements, \
         but the rest of the file can hold at most 10; the file is truncated or damaged"
    );
}

#[test]
fn a_file_that_ends_too_early() {
    assert_eq!(
        format_error(&Raw::new(0, 0).0[..20].to_vec().into_raw(), 16),
        "the file ends inside the header: 8 more bytes are needed and 4 are left; the file is truncated or damaged"
    );
    assert_eq!(
        format_error(&Raw::new(0, 1).u64(u64::MAX).bytes(&[b'k'; 16]), 32),
        "the file ends inside the name of metadata key number 0: 18446744073709551615 more bytes are needed and \
         16 are left; the file is truncated or damaged"
    );
    assert_eq!(
        format_error(
            &Raw::new(0, 1).key("name", STRING).u64(9).bytes(b"short"),
            48
        ),
        "the file ends inside the value of metadata key 'name': 9 more bytes are needed and 5 are left; \
         the file is truncated or damaged"
    );
    assert_eq!(
        format_error(&Raw::new(1, 0).text("a").u32(2).u64(3).bytes(&[0; 4]), 45),
        "the file ends inside the description of tensor 'a': 8 more bytes are needed and 4 are left; \
         the file is truncated or damaged"
    );
}

trait IntoRaw {
    fn into_raw(self) -> Raw;
}

impl IntoRaw for Vec<u8> {
    fn into_raw(self) -> Raw {
        Raw(self)
    }
}

#[test]
fn values_that_are_not_values() {
    assert_eq!(
        format_error(&Raw::new(0, 1).key("k", 13).u64(0), 33),
        "the value of metadata key 'k' has the unknown type number 13; known are 0 to 12"
    );
    assert_eq!(
        format_error(&Raw::new(0, 1).key("k", ARRAY).u32(99).u64(0), 37),
        "the value of metadata key 'k' has the unknown type number 99; known are 0 to 12"
    );
    assert_eq!(
        format_error(&Raw::new(0, 1).key("flag", BOOL).bytes(&[2]), 40),
        "the value of metadata key 'flag' has a bool of 2; expected 0 or 1"
    );
    assert_eq!(
        format_error(
            &Raw::new(0, 1)
                .key("flags", ARRAY)
                .u32(BOOL)
                .u64(3)
                .bytes(&[0, 1, 7]),
            55
        ),
        "the value of metadata key 'flags' has a bool of 7; expected 0 or 1"
    );
    assert_eq!(
        format_error(
            &Raw::new(0, 1).key("text", STRING).u64(4).bytes(b"ab\xffd"),
            50
        ),
        "the value of metadata key 'text' is not valid UTF-8"
    );
    assert_eq!(
        format_error(
            &Raw::new(0, 1)
                .u64(4)
                .bytes(b"ab\xc3\x28")
                .u32(U8)
                .bytes(&[1]),
            34
        ),
        "the name of metadata key number 0 is not valid UTF-8"
    );
    assert_eq!(
        format_error(
            &Raw::new(1, 0)
                .u64(2)
                .bytes(b"\xff\xff")
                .u32(0)
                .u32(F32)
                .u64(0),
            32
        ),
        "the name of tensor number 0 is not valid UTF-8"
    );
    let nested = (0..9).fold(Raw::new(0, 1).key("deep", ARRAY), |raw, _| {
        raw.u32(ARRAY).u64(1)
    });
    assert_eq!(
        format_error(&nested.u32(U8).u64(0), 136),
        "the value of metadata key 'deep' nests arrays more than 8 deep"
    );
}

#[test]
fn things_that_occur_twice() {
    let twice = Raw::new(0, 2)
        .key("k", U8)
        .bytes(&[1])
        .key("k", U8)
        .bytes(&[2]);
    assert_eq!(
        format_error(&twice, 38),
        "metadata key 'k' occurs twice, first at byte 24"
    );
    let twice = Raw::new(2, 0)
        .tensor("t", &[1], F32, 0)
        .tensor("t", &[1], F32, 32)
        .data(&[0; 64]);
    assert_eq!(
        format_error(&twice, 57),
        "tensor 't' occurs twice, first at byte 24"
    );
}

#[test]
fn an_alignment_that_aligns_nothing() {
    let alignment = |value: u32| Raw::new(0, 1).key("general.alignment", U32).u32(value);
    for value in [0, 3, 33] {
        assert_eq!(
            format_error(&alignment(value), 53),
            format!("'general.alignment' must be a power of two, found {value}")
        );
    }
    let text = Raw::new(0, 1).key("general.alignment", STRING).text("32");
    assert_eq!(
        format_error(&text, 53),
        "'general.alignment' must be a u32, found string"
    );
    let array = Raw::new(0, 1)
        .key("general.alignment", ARRAY)
        .u32(U8)
        .u64(2)
        .bytes(&[1, 2]);
    assert_eq!(
        format_error(&array, 53),
        "'general.alignment' must be a u32, found array of 2 u8"
    );
}

#[test]
fn shapes_that_are_not_shapes() {
    assert_eq!(
        format_error(&Raw::new(1, 0).tensor("t", &[1; 5], F32, 0), 33),
        "tensor 't' has 5 axes; at most 4 are allowed"
    );
    for ne in [[1 << 40, 1 << 40], [u64::MAX, 1], [u64::MAX, 0]] {
        assert_eq!(
            format_error(&Raw::new(1, 0).tensor("t", &ne, F32, 0), 37),
            format!(
                "tensor 't' of shape {:?} has more bytes than can be addressed",
                [ne[1], ne[0]]
            )
        );
    }
    assert_eq!(
        format_error(
            &Raw::new(1, 0)
                .tensor("t", &[48, 2], Q8_0, 0)
                .data(&[0; 128]),
            37
        ),
        "tensor 't' has rows of 48 elements; ggml type 'Q8_0' (id 8) packs 32 elements a block"
    );
}

#[test]
fn data_that_is_not_where_it_should_be() {
    assert_eq!(
        format_error(&Raw::new(1, 0).tensor("t", &[8], F32, 4).data(&[0; 64]), 24),
        "the data of tensor 't' begins at offset 4, which is not a multiple of 32"
    );
    // The data begins at byte 64.
    assert_eq!(
        format_error(
            &Raw::new(1, 0).tensor("t", &[64], F32, 0).data(&[0; 255]),
            24
        ),
        "the data of tensor 't' ends at byte 320, but the file has 319 bytes; the file is truncated or damaged"
    );
    assert_eq!(
        format_error(
            &Raw::new(1, 0)
                .tensor("t", &[64], F32, u64::MAX - 31)
                .data(&[0; 256]),
            24
        ),
        "the data of tensor 't' ends at byte 18446744073709551615, but the file has 320 bytes; \
         the file is truncated or damaged"
    );
    let overlapping = Raw::new(2, 0)
        .tensor("a", &[16], F32, 32)
        .tensor("b", &[16], F32, 0)
        .data(&[0; 96]);
    assert_eq!(
        format_error(&overlapping, 24),
        "the data of tensor 'a' begins inside that of tensor 'b', which ends at byte 160"
    );
    let same_place = Raw::new(2, 0)
        .tensor("a", &[8], F32, 0)
        .tensor("b", &[8], F32, 0)
        .data(&[0; 32]);
    assert_eq!(
        format_error(&same_place, 57),
        "the data of tensor 'b' begins inside that of tensor 'a', which ends at byte 128"
    );
}

#[test]
fn the_last_tensor_needs_no_padding_and_gaps_are_allowed() {
    let raw = Raw::new(2, 0)
        .tensor("late", &[1], F32, 64)
        .tensor("early", &[2], F32, 0)
        .data(&[7; 68]);
    let file = GgufFile::from_bytes("m.gguf", raw.0).unwrap();
    assert_eq!(file.tensor("late").unwrap().bytes, [7; 4]);
    assert_eq!(file.tensor("early").unwrap().bytes, [7; 8]);
    assert_eq!(
        file.tensors().map(|t| t.offset()).collect::<Vec<_>>(),
        [192, 128]
    );
}

#[test]
fn a_tensor_without_elements_or_axes() {
    let raw = Raw::new(2, 0)
        .tensor("none", &[0, 3], F32, 0)
        .tensor("scalar", &[], F32, 0)
        .data(&[1; 4]);
    let file = GgufFile::from_bytes("m.gguf", raw.0).unwrap();
    let none = file.tensor("none").unwrap();
    assert_eq!((none.shape, none.bytes.len()), (&[3, 0][..], 0));
    let scalar = file.tensor("scalar").unwrap();
    assert_eq!((scalar.shape, scalar.bytes), (&[][..], &[1; 4][..]));
}

#[test]
fn an_unsupported_type_is_an_error_only_when_its_tensor_is_asked_for() {
    let raw = Raw::new(4, 0)
        .tensor("iq", &[256], 16, 0)
        .tensor("new", &[256], 77, 96)
        .tensor("old", &[256], 31, 96)
        .tensor("f", &[1], F32, 96)
        .data(&[0; 100]);
    let file = GgufFile::from_bytes("m.gguf", raw.0.clone()).unwrap();
    assert_eq!(file.tensor("f").unwrap().bytes, [0; 4]);
    assert_eq!(
        file.tensors().map(|t| t.n_bytes()).collect::<Vec<_>>(),
        [Some(66), None, None, Some(4)]
    );
    let error = |name| chain(&file.tensor(name).map(|_| ()).unwrap_err());
    let supported = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4";
    assert_eq!(
        error("iq"),
        format!(
            "m.gguf does not have a tensor that is needed | tensor 'iq' has the unsupported ggml type 'IQ2_XXS' (id 16); \
             quantize the model to one of {supported}"
        )
    );
    assert_eq!(
        error("new"),
        format!(
            "m.gguf does not have a tensor that is needed | tensor 'new' has the unsupported ggml type with id 77, \
             which this version does not know; quantize the model to one of {supported}"
        )
    );
    assert_eq!(
        error("nix"),
        "m.gguf does not have a tensor that is needed | tensor 'nix' is not among the 4 tensors of the file"
    );
    // A foreign type's extent is checked too.
    assert_eq!(
        format_error(
            &Raw::new(1, 0).tensor("iq", &[512], 16, 0).data(&[0; 100]),
            24
        ),
        "the data of tensor 'iq' ends at byte 196, but the file has 164 bytes; the file is truncated or damaged"
    );
}

#[test]
fn paths_that_are_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.gguf");
    assert_eq!(
        chain(&GgufFile::open(&missing).unwrap_err()),
        format!(
            "cannot open {} | No such file or directory (os error 2)",
            missing.display()
        )
    );
    assert_eq!(
        chain(&GgufFile::open(dir.path()).unwrap_err()),
        format!(
            "{} is not a regular file, so it cannot be mapped into memory",
            dir.path().display()
        )
    );
    let empty = dir.path().join("empty.gguf");
    std::fs::write(&empty, b"").unwrap();
    assert_eq!(
        chain(&GgufFile::open(&empty).unwrap_err()),
        format!(
            "{} is not a valid GGUF file: error at byte 0 | the file is empty; if it was downloaded, the download failed",
            empty.display()
        )
    );
}
