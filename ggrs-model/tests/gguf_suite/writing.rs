//! What the writer refuses, and the words for it.

use std::io::{self, Write};

use ggrs_core::DType;
use ggrs_model::gguf::writer::GgufHeader;

use super::chain;
use super::raw::{F32, Raw, U32};

#[test]
fn bytes_are_as_laid_out_by_hand() {
    let mut header = GgufHeader::new();
    header.set("n", 5u32).unwrap();
    header.tensor("a", DType::F32, &[1, 2]).unwrap();
    header.tensor("b", DType::F32, &[3]).unwrap();
    let mut writer = header.write_to(Vec::new()).unwrap();
    writer.write(&[1; 8]).unwrap();
    writer.write(&[2; 12]).unwrap();
    let expected = Raw::new(2, 1)
        .key("n", U32)
        .u32(5)
        .tensor("a", &[2, 1], F32, 0)
        .tensor("b", &[3], F32, 32)
        .data(&[1; 8])
        .data(&[2; 12])
        .data(&[]);
    assert_eq!(writer.finish().unwrap(), expected.0);
}

#[test]
fn keys_and_tensors_that_are_refused() {
    let mut header = GgufHeader::new();
    header.set("k", 1u8).unwrap();
    header.tensor("t", DType::F32, &[1]).unwrap();
    let cases = [
        (header.set("k", 2u8), "metadata key 'k' is set twice"),
        (
            header.set("general.alignment", 32u32),
            "'general.alignment' also places the data, so it is set by GgufHeader::with_alignment only",
        ),
        (
            header.tensor("t", DType::F32, &[1]).map(|_| ()),
            "tensor 't' is declared twice",
        ),
        (
            header.tensor("q", DType::Q4_K, &[2, 128]).map(|_| ()),
            "tensor 'q' cannot be stored as Q4_K of shape [2, 128]: at most 4 axes, rows in multiples of 256 elements",
        ),
        (
            header.tensor("q", DType::F32, &[1; 5]).map(|_| ()),
            "tensor 'q' cannot be stored as F32 of shape [1, 1, 1, 1, 1]: at most 4 axes, rows in multiples of 1 elements",
        ),
        (
            GgufHeader::with_alignment(24).map(|_| ()),
            "the alignment must be a power of two, found 24",
        ),
    ];
    for (result, expected) in cases {
        assert_eq!(chain(&result.unwrap_err()), expected);
    }
    assert!(
        header
            .tensor("q", DType::F32, &[usize::MAX, usize::MAX])
            .is_err()
    );
}

#[test]
fn data_that_does_not_fit_its_tensor() {
    let writer = || {
        let mut header = GgufHeader::new();
        header.tensor("a", DType::F32, &[2]).unwrap();
        header.tensor("b", DType::F32, &[1]).unwrap();
        header.write_to(Vec::new()).unwrap()
    };
    let mut too_many = writer();
    too_many.write(&[0; 4]).unwrap();
    assert_eq!(
        chain(&too_many.write(&[0; 5]).unwrap_err()),
        "tensor 'a' has 8 bytes, but 9 were given"
    );

    let mut too_few = writer();
    too_few.write(&[0; 8]).unwrap();
    too_few.write(&[0; 3]).unwrap();
    assert_eq!(
        chain(&too_few.finish().map(|_| ()).unwrap_err()),
        "tensor 'b' has 4 bytes, but only 3 were given"
    );

    let mut none_left = writer();
    none_left.write(&[0; 8]).unwrap();
    none_left.write(&[0; 4]).unwrap();
    assert_eq!(
        chain(&none_left.write(&[0]).unwrap_err()),
        "1 bytes were given after the last tensor was complete"
    );
}

#[test]
fn a_sink_that_fails() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = GgufHeader::new().write_to(Full).map(|_| ()).unwrap_err();
    assert_eq!(chain(&error), "cannot write the file | no storage space");
}
