//! Model files with one fault each, made from a good one. Runs nothing.

use std::path::PathBuf;

use ggrs_core::DType;
use ggrs_model::gguf::GgufFile;
use ggrs_model::gguf::writer::GgufHeader;
use ggrs_tests::fixtures::fixture_path;

/// A small good model with a vocabulary of 416 tokens.
pub(crate) fn good_path() -> PathBuf {
    fixture_path("qwen3moe/small-q8_0.gguf")
}

pub(crate) fn good_bytes() -> Vec<u8> {
    std::fs::read(good_path()).expect("the fixture")
}

/// What is changed about a model.
#[derive(Default)]
pub(crate) struct Fault<'a> {
    /// A key that is left out.
    pub(crate) without_key: Option<&'a str>,
    /// A key that holds another text.
    pub(crate) text: Option<(&'a str, &'a str)>,
    /// A key that holds another number.
    pub(crate) number: Option<(&'a str, u32)>,
    /// A tensor that is left out.
    pub(crate) without_tensor: Option<&'a str>,
    /// A tensor of zeros of another dtype and shape.
    pub(crate) tensor: Option<(&'a str, DType, &'a [usize])>,
}

/// The good model with a fault.
pub(crate) fn with(fault: &Fault<'_>) -> Vec<u8> {
    let file = GgufFile::open(good_path()).expect("the fixture");
    let mut header = GgufHeader::new();
    for (key, value) in file.metadata().iter() {
        match fault {
            Fault {
                without_key: Some(k),
                ..
            } if *k == key => Ok(()),
            Fault {
                text: Some((k, text)),
                ..
            } if *k == key => header.set(key, *text),
            Fault {
                number: Some((k, number)),
                ..
            } if *k == key => header.set(key, *number),
            _ => header.copy(key, value),
        }
        .expect("keys are distinct");
    }
    let mut data = Vec::new();
    for entry in file
        .tensors()
        .filter(|t| fault.without_tensor != Some(t.name()))
    {
        let tensor = file.tensor(entry.name()).expect("a tensor of the file");
        match fault.tensor {
            Some((name, dtype, shape)) if name == entry.name() => {
                let n_bytes = header
                    .tensor(name, dtype, shape)
                    .expect("a possible tensor");
                data.push(vec![0; usize::try_from(n_bytes).expect("small")]);
            }
            _ => {
                header
                    .tensor(tensor.name, tensor.dtype, tensor.shape)
                    .expect("a possible tensor");
                data.push(tensor.bytes.to_vec());
            }
        }
    }
    let mut writer = header.write_to(Vec::new()).expect("memory");
    for bytes in data {
        writer.write(&bytes).expect("memory");
    }
    writer.finish().expect("memory")
}

/// Where the description of a tensor stands in a file: the byte after its name.
pub(crate) fn after_tensor_name(bytes: &[u8], name: &str) -> usize {
    let mut encoded = (name.len() as u64).to_le_bytes().to_vec();
    encoded.extend_from_slice(name.as_bytes());
    let at = bytes
        .windows(encoded.len())
        .position(|w| w == encoded)
        .expect("the tensor's name");
    at + encoded.len()
}
