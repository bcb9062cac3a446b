//! Why a GGUF file cannot be used: which file, where in it, what was expected and what was found.
//!
//! Errors are data with a sentence; this file must not know how they come about.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ggrs_core::DType;

use super::ggml_type::GgmlType;
use super::value::{ValueKind, ValueType};

/// A GGUF file that cannot be opened, or does not hold what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The system refuses to open the file.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{} is not a regular file, so it cannot be mapped into memory", path.display())]
    NotAFile {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The system refuses to map the file.
    #[error("cannot map {} into memory", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not a valid GGUF file.
    #[error("{} is not a valid GGUF file: error at byte {offset}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where the offending bytes begin.
        offset: u64,
        /// What is wrong with them.
        source: FormatError,
    },
    /// The files of a split model do not belong together.
    #[error("{} is one file of a split model that cannot be put together", path.display())]
    Split {
        /// The file that was opened.
        path: PathBuf,
        /// What does not match.
        source: SplitError,
    },
    /// A key is missing or holds something else than was asked for.
    #[error("{} does not have the metadata that is needed", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Which key, and what is wrong with it.
        source: MetadataError,
    },
    /// A tensor is missing or cannot be read.
    #[error("{} does not have a tensor that is needed", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Which tensor, and what is wrong with it.
        source: TensorError,
    },
}

/// The part of a file that was being read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Magic, version and counts.
    Header,
    /// The name of the key with this index.
    KeyName(usize),
    /// The type and value of a key.
    Value(String),
    /// The name of the tensor with this index.
    TensorName(usize),
    /// Shape, type and offset of a tensor.
    TensorInfo(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "the header"),
            Self::KeyName(key_idx) => write!(f, "the name of metadata key number {key_idx}"),
            Self::Value(key) => write!(f, "the value of metadata key '{key}'"),
            Self::TensorName(tensor_idx) => write!(f, "the name of tensor number {tensor_idx}"),
            Self::TensorInfo(tensor) => write!(f, "the description of tensor '{tensor}'"),
        }
    }
}

/// What is wrong with a file's bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file has no bytes.
    #[error("the file is empty; if it was downloaded, the download failed")]
    Empty,
    /// The file does not begin with `GGUF`.
    #[error("expected the magic bytes 'GGUF', found '{}'{}", found.escape_ascii(), looks_like(*found))]
    NotGguf {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file was written for big-endian machines.
    #[error(
        "the file is big-endian (version {version}), and only little-endian files are read; \
         convert it with gguf_convert_endian.py of llama.cpp"
    )]
    BigEndian {
        /// The version, read as big-endian.
        version: u32,
    },
    /// The version is neither 2 nor 3.
    #[error(
        "expected GGUF version 2 or 3, found {found}; convert the model again with a current converter"
    )]
    UnsupportedVersion {
        /// The version in the file.
        found: u32,
    },
    /// The file ends too early.
    #[error(
        "the file ends inside {place}: {needed} more bytes are needed and {left} are left; the file is truncated or damaged"
    )]
    Truncated {
        /// What was being read.
        place: Place,
        /// Bytes needed from this offset on.
        needed: u64,
        /// Bytes from this offset to the end.
        left: u64,
    },
    /// A count that the rest of the file cannot hold.
    #[error(
        "{place} declares {count} {what}, but the rest of the file can hold at most {max}; the file is truncated or damaged"
    )]
    CountTooLarge {
        /// What was being read.
        place: Place,
        /// What is counted.
        what: &'static str,
        /// The count in the file.
        count: u64,
        /// The most that fit.
        max: u64,
    },
    /// Text that is not UTF-8.
    #[error("{place} is not valid UTF-8")]
    NotUtf8 {
        /// What was being read.
        place: Place,
    },
    /// A number that stands for no value type.
    #[error("{place} has the unknown type number {found}; known are 0 to 12")]
    UnknownValueType {
        /// What was being read.
        place: Place,
        /// The number in the file.
        found: u32,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("{place} has a bool of {found}; expected 0 or 1")]
    BadBool {
        /// What was being read.
        place: Place,
        /// The byte in the file.
        found: u8,
    },
    /// Arrays within arrays beyond any use.
    #[error("{place} nests arrays more than {max} deep")]
    NestedTooDeep {
        /// What was being read.
        place: Place,
        /// The deepest nesting that is read.
        max: usize,
    },
    /// The same key twice.
    #[error("metadata key '{key}' occurs twice, first at byte {first}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stands first.
        first: u64,
    },
    /// `general.alignment` is not a `u32`.
    #[error("'general.alignment' must be a u32, found {found}")]
    AlignmentType {
        /// What the key holds.
        found: ValueKind,
    },
    /// `general.alignment` is not a power of two.
    #[error("'general.alignment' must be a power of two, found {found}")]
    AlignmentValue {
        /// The value in the file.
        found: u32,
    },
    /// A tensor with more axes than GGUF allows.
    #[error("tensor '{tensor}' has {found} axes; at most {max} are allowed")]
    TooManyAxes {
        /// The tensor.
        tensor: String,
        /// Axes in the file.
        found: u32,
        /// Axes allowed.
        max: u32,
    },
    /// A tensor whose size cannot be computed.
    #[error("tensor '{tensor}' of shape {shape:?} has more bytes than can be addressed")]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
        /// Its shape, outermost axis first.
        shape: Vec<u64>,
    },
    /// Rows that do not end on a block.
    #[error(
        "tensor '{tensor}' has rows of {row_elems} elements; ggml type {ggml_type} packs {block_elems} elements a block"
    )]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Its type.
        ggml_type: GgmlType,
        /// Length of its last axis.
        row_elems: u64,
        /// Elements in a block.
        block_elems: usize,
    },
    /// The same tensor name twice.
    #[error("tensor '{tensor}' occurs twice, first at byte {first}")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// Where it is described first.
        first: u64,
    },
    /// Data that does not begin on the file's alignment.
    #[error(
        "the data of tensor '{tensor}' begins at offset {data_offset}, which is not a multiple of {alignment}"
    )]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        data_offset: u64,
        /// The file's alignment.
        alignment: u32,
    },
    /// Data beyond the end of the file.
    #[error(
        "the data of tensor '{tensor}' ends at byte {end}, but the file has {file_bytes} bytes; the file is truncated or damaged"
    )]
    OutsideFile {
        /// The tensor.
        tensor: String,
        /// Where its data would end.
        end: u64,
        /// The file's size.
        file_bytes: u64,
    },
    /// Two tensors that share bytes.
    #[error(
        "the data of tensor '{tensor}' begins inside that of tensor '{other}', which ends at byte {other_end}"
    )]
    Overlap {
        /// The tensor that begins later.
        tensor: String,
        /// The tensor that begins first.
        other: String,
        /// Where the first one's data ends.
        other_end: u64,
    },
}

/// What a file that does not begin with `GGUF` may be, and what helps.
fn looks_like(magic: [u8; 4]) -> &'static str {
    match &magic {
        b"vers" => "; this looks like a Git LFS pointer: run 'git lfs pull'",
        b"lmgg" | b"fmgg" | b"tjgg" => {
            "; this is a model in a format before GGUF: convert the model again"
        }
        b"PK\x03\x04" => "; this looks like a PyTorch checkpoint: convert it to GGUF first",
        b"<!DO" | b"<!do" | b"<htm" => "; this looks like a web page: the download failed",
        _ => "",
    }
}

/// Files of a split model that do not belong together. Parts are counted from 1, as in their names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A part other than the first was opened.
    #[error("this is part {part} of {count}; open part 1: {}", first.display())]
    NotFirst {
        /// The part that was opened.
        part: u32,
        /// Number of parts.
        count: u32,
        /// The name that part 1 should have.
        first: PathBuf,
    },
    /// The name does not say what the other parts are called.
    #[error("the file says it is part {part} of {count}, so its name must end in '{suffix}'")]
    FileName {
        /// The part that was opened.
        part: u32,
        /// Number of parts.
        count: u32,
        /// The end that the name should have.
        suffix: String,
    },
    /// A split model that is not on disk.
    #[error(
        "the model is split in {count} files, and only the first was given; merge them with llama-gguf-split"
    )]
    InMemory {
        /// Number of parts.
        count: u32,
    },
    /// Another part cannot be read.
    #[error("part {part} of {count} cannot be read")]
    Part {
        /// The part.
        part: u32,
        /// Number of parts.
        count: u32,
        /// Why it cannot be read.
        source: Box<GgufError>,
    },
    /// A part that says it is another one.
    #[error("{} should be part {expected} of the model and says that it is part {found}", path.display())]
    PartNumber {
        /// The file.
        path: PathBuf,
        /// The part that its name says.
        expected: u32,
        /// The part that its metadata says.
        found: u32,
    },
    /// A part of a model split otherwise.
    #[error("{} says that the model has {found} parts, but part 1 says {expected}", path.display())]
    PartCount {
        /// The file.
        path: PathBuf,
        /// Parts according to part 1.
        expected: u32,
        /// Parts according to this file.
        found: u32,
    },
    /// Tensors are missing, or too many.
    #[error("the model should have {expected} tensors, but its {count} parts have {found}")]
    TensorCount {
        /// `split.tensors.count` of part 1.
        expected: u64,
        /// Number of parts.
        count: u32,
        /// Tensors in all parts together.
        found: u64,
    },
    /// The same tensor in two parts.
    #[error("tensor '{tensor}' is in {} and in {}", first.display(), second.display())]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The part that has it first.
        first: PathBuf,
        /// The part that has it again.
        second: PathBuf,
    },
}

/// A key that is missing or does not hold what was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is not in the file.
    #[error("key '{key}' is missing; expected {expected}")]
    Missing {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: String,
    },
    /// The key holds a value of another type.
    #[error("key '{key}' should hold {expected}, found {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: String,
        /// What the key holds.
        found: ValueKind,
    },
    /// The key holds an integer that the type asked for cannot.
    #[error("key '{key}' holds {value}, which is out of range for {expected}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value in the file.
        value: i128,
        /// The type that was asked for.
        expected: ValueType,
    },
    /// An array with the wrong number of elements.
    #[error("key '{key}' should hold {expected} values, found {found}")]
    WrongLength {
        /// The key.
        key: String,
        /// Elements needed.
        expected: usize,
        /// Elements in the file.
        found: usize,
    },
}

/// A tensor that is missing or cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// No tensor has this name.
    #[error("tensor '{tensor}' is not among the {n_tensors} tensors of the file")]
    Missing {
        /// The name.
        tensor: String,
        /// Tensors in the file.
        n_tensors: usize,
    },
    /// The tensor's type is not one that GGRS computes with.
    #[error(
        "tensor '{tensor}' has the unsupported ggml type {ggml_type}; quantize the model to one of {}",
        supported_names()
    )]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// Its type.
        ggml_type: GgmlType,
    },
}

fn supported_names() -> String {
    DType::ALL
        .iter()
        .filter(|d| !d.is_int())
        .map(|d| d.name())
        .collect::<Vec<_>>()
        .join(", ")
}
