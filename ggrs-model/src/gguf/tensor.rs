//! Tensors of a file: what the file says about each, and the bytes of those that can be read.
//!
//! Shapes here are in GGRS order. What a tensor is for is not known here.

use std::ops::Range;

use ggrs_core::DType;

use super::ggml_type::GgmlType;

/// What a file says about a tensor, whether or not GGRS supports its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    pub(super) name: String,
    pub(super) ggml_type: GgmlType,
    pub(super) shape: Vec<usize>,
    pub(super) offset: usize,
    pub(super) n_bytes: Option<usize>,
    pub(super) file_idx: usize,
}

impl TensorEntry {
    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its elements.
    pub const fn ggml_type(&self) -> GgmlType {
        self.ggml_type
    }

    /// Its shape, outermost axis first (the reverse of ggml's `ne`).
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements. Cannot overflow: that was checked when the file was opened.
    pub fn n_elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where its data begins, in bytes from the beginning of its file.
    pub const fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// Size of its data, or `None` for a type whose size is not known.
    pub const fn n_bytes(&self) -> Option<usize> {
        self.n_bytes
    }

    /// Where its data is in its file, or `None` for a type whose size is not known.
    pub(super) fn data_range(&self) -> Option<Range<usize>> {
        Some(self.offset..self.offset.checked_add(self.n_bytes?)?)
    }

    /// Which file of a split model it is in, as an index into [`GgufFile::paths`](super::GgufFile::paths).
    pub const fn file_idx(&self) -> usize {
        self.file_idx
    }
}

/// A tensor that GGRS can read.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: DType,
    /// Its shape, outermost axis first (the reverse of ggml's `ne`).
    pub shape: &'a [usize],
    /// Its data, contiguous, in the file's own memory. Mapped files align it to the file's alignment (32 bytes unless
    /// the file says otherwise); bytes given by the caller are aligned as the caller aligned them.
    pub bytes: &'a [u8],
}
