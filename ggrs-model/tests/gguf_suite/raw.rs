//! GGUF bytes laid out by hand, right or wrong.
//!
//! This file must not use the writer under test.

/// A file in the making; nothing is checked.
#[derive(Clone)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

pub(crate) const U8: u32 = 0;
pub(crate) const U32: u32 = 4;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

pub(crate) const F32: u32 = 0;
pub(crate) const Q8_0: u32 = 8;

impl Raw {
    /// Magic, version 3 and counts.
    pub(crate) fn new(n_tensors: u64, n_keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(n_tensors).u64(n_keys)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key's name and type; the value is to follow.
    pub(crate) fn key(self, name: &str, value_type: u32) -> Self {
        self.text(name).u32(value_type)
    }

    /// The description of a tensor; `ne` is in the file's order.
    pub(crate) fn tensor(self, name: &str, ne: &[u64], ggml_type: u32, offset: u64) -> Self {
        let raw = self.text(name).u32(ne.len() as u32);
        ne.iter()
            .fold(raw, |raw, len| raw.u64(*len))
            .u32(ggml_type)
            .u64(offset)
    }

    /// Pads to the default alignment and appends data.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        self.bytes(data)
    }
}
