//! GGUF files: reading them checked and memory-mapped, and writing them as a stream.
//!
//! This module knows bytes, keys, dtypes and shapes. It must not know architectures, tokenizers or devices.
//!
//! The format (all little-endian): magic `GGUF`, `u32` version, `u64` tensor count, `u64` key count; then the keys
//! (name, `u32` type, value), the tensor infos (name, `u32` number of axes, `u64` lengths with the fastest axis
//! first, `u32` ggml type, `u64` offset into the data section), padding to `general.alignment`, and the data.

mod cursor;
mod encode;
mod error;
mod file;
mod file_bytes;
mod ggml_type;
mod metadata;
mod parse;
mod split;
mod tensor;
mod value;
pub mod writer;

pub use error::{FormatError, GgufError, MetadataError, Place, SplitError, TensorError};
pub use file::GgufFile;
pub use file_bytes::FileBytes;
pub use ggml_type::GgmlType;
pub use metadata::{FromValue, Metadata};
pub use tensor::{Tensor, TensorEntry};
pub use value::{Array, ArrayIter, Value, ValueKind, ValueType};
