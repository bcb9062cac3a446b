//! What tells one model from another: architecture, and a hash of what its file says and of how its tensors begin.

use std::fmt;

use crate::gguf::{GgufFile, Value};
use crate::model::Model;

/// Bytes of each tensor that enter the hash: models of one family differ only there, and reading all would take long.
const SAMPLE_BYTES: usize = 4096;

/// Which model a state belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Its architecture's name.
    pub architecture: String,
    /// BLAKE3 of its metadata, of its tensors' names, types and shapes, and of the beginning of each tensor's data.
    pub fingerprint: [u8; 32],
}

impl fmt::Display for ModelIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.architecture)?;
        for byte in self.fingerprint.iter().take(8) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl ModelIdentity {
    /// A loaded model's.
    pub(super) fn of(model: &Model) -> Self {
        Self {
            architecture: model.architecture().name().to_owned(),
            fingerprint: fingerprint(model.file()),
        }
    }
}

/// Does not depend on the order of keys and tensors, nor on how many files they are split into.
fn fingerprint(file: &GgufFile) -> [u8; 32] {
    let mut hash = Hash(blake3::Hasher::new());
    let mut keys: Vec<_> = file
        .metadata()
        .iter()
        .filter(|(k, _)| !k.starts_with("split."))
        .collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    hash.number(keys.len());
    for (key, value) in keys {
        hash.text(key);
        hash.value(value);
    }
    let mut tensors: Vec<_> = file.tensors().collect();
    tensors.sort_unstable_by_key(|t| t.name());
    hash.number(tensors.len());
    for entry in tensors {
        hash.text(entry.name());
        hash.text(&entry.ggml_type().to_string());
        hash.number(entry.shape().len());
        for n in entry.shape() {
            hash.number(*n);
        }
        // A tensor of a type that GGRS does not read is not computed with.
        let bytes = file.tensor(entry.name()).map_or(&[][..], |t| t.bytes);
        hash.bytes(bytes.get(..SAMPLE_BYTES).unwrap_or(bytes));
    }
    *hash.0.finalize().as_bytes()
}

/// A hash of values, each written so that no two sequences of values look alike.
struct Hash(blake3::Hasher);

impl Hash {
    fn number(&mut self, n: usize) {
        self.0.update(&(n as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn value(&mut self, value: Value<'_>) {
        self.0.update(&value.value_type().id().to_le_bytes());
        match value {
            Value::Str(text) => self.text(text),
            Value::Array(array) => {
                self.0.update(&array.element_type().id().to_le_bytes());
                self.number(array.len());
                for element in array.iter() {
                    self.value(element);
                }
            }
            Value::F32(x) => self.bytes(&x.to_le_bytes()),
            Value::F64(x) => self.bytes(&x.to_le_bytes()),
            Value::Bool(b) => self.bytes(&[u8::from(b)]),
            Value::U8(_)
            | Value::I8(_)
            | Value::U16(_)
            | Value::I16(_)
            | Value::U32(_)
            | Value::I32(_)
            | Value::U64(_)
            | Value::I64(_) => self.bytes(&value.as_integer().unwrap_or(0).to_le_bytes()),
        }
    }
}
