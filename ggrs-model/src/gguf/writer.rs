//! Writing GGUF files as a stream: first all keys and tensor descriptions, then the tensors' data in order.
//!
//! Nothing but the header is held in memory. What keys and tensors mean is not known here.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use ggrs_core::DType;

use super::encode::encode_value;
use super::ggml_type::GgmlType;
use super::parse::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_AXES};
use super::value::{Value, ValueType};

pub use super::encode::Encode;

/// The version that is written.
const VERSION: u32 = 3;

/// A GGUF file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The same key was set twice.
    #[error("metadata key '{key}' is set twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// `general.alignment` was set as a key.
    #[error(
        "'general.alignment' also places the data, so it is set by GgufHeader::with_alignment only"
    )]
    AlignmentKey,
    /// An alignment that is not a power of two.
    #[error("the alignment must be a power of two, found {found}")]
    Alignment {
        /// The alignment asked for.
        found: u32,
    },
    /// The same tensor was declared twice.
    #[error("tensor '{tensor}' is declared twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A shape that GGUF files cannot hold, or rows that do not end on a block.
    #[error(
        "tensor '{tensor}' cannot be stored as {dtype} of shape {shape:?}: at most 4 axes, rows in multiples of {} elements",
        dtype.block_elems()
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: DType,
        /// Its shape, outermost axis first.
        shape: Vec<usize>,
    },
    /// More data for a tensor than its shape has.
    #[error("tensor '{tensor}' has {n_bytes} bytes, but {given} were given")]
    TooManyBytes {
        /// The tensor.
        tensor: String,
        /// Its size.
        n_bytes: u64,
        /// Bytes given for it.
        given: u64,
    },
    /// Data after the last tensor.
    #[error("{given} bytes were given after the last tensor was complete")]
    NoTensorLeft {
        /// Bytes given.
        given: u64,
    },
    /// The file was finished before all data was given.
    #[error("tensor '{tensor}' has {n_bytes} bytes, but only {given} were given")]
    MissingBytes {
        /// The first incomplete tensor.
        tensor: String,
        /// Its size.
        n_bytes: u64,
        /// Bytes given for it.
        given: u64,
    },
    /// The system cannot write.
    #[error("cannot write the file")]
    Io(#[from] io::Error),
}

/// The header of a file to be written: its keys and the tensors that will follow.
///
/// ```
/// use ggrs_core::DType;
/// use ggrs_model::gguf::{GgufFile, writer::GgufHeader};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut header = GgufHeader::new();
/// header.set("general.architecture", "example")?;
/// header.set("example.widths", [3u32, 5])?;
/// header.tensor("a", DType::F32, &[2])?;
/// let mut writer = header.write_to(Vec::new())?;
/// writer.write(&[0; 8])?;
/// let file = GgufFile::from_bytes("example.gguf", writer.finish()?)?;
/// assert_eq!(file.tensor("a")?.shape, [2]);
/// # Ok(()) }
/// ```
pub struct GgufHeader {
    alignment: u32,
    keys: HashSet<String>,
    encoded_keys: Vec<u8>,
    names: HashSet<String>,
    tensors: Vec<Declared>,
    data_bytes: u64,
}

/// A tensor whose data is to follow.
struct Declared {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    offset: u64,
    n_bytes: u64,
}

impl Default for GgufHeader {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufHeader {
    /// An empty header; tensors will be aligned to 32 bytes.
    pub fn new() -> Self {
        Self {
            alignment: DEFAULT_ALIGNMENT,
            keys: HashSet::new(),
            encoded_keys: Vec::new(),
            names: HashSet::new(),
            tensors: Vec::new(),
            data_bytes: 0,
        }
    }

    /// An empty header with an alignment of its own.
    ///
    /// # Errors
    /// The alignment is not a power of two.
    pub fn with_alignment(alignment: u32) -> Result<Self, WriteError> {
        if !alignment.is_power_of_two() {
            return Err(WriteError::Alignment { found: alignment });
        }
        let mut header = Self {
            alignment,
            ..Self::new()
        };
        header.begin_key(ALIGNMENT_KEY, ValueType::U32)?;
        alignment.encode(&mut header.encoded_keys);
        Ok(header)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// The key is set already, or is `general.alignment`, which [`with_alignment`](Self::with_alignment) sets.
    pub fn set<T: Encode>(&mut self, key: &str, value: T) -> Result<(), WriteError> {
        self.begin_own_key(key, T::TYPE)?;
        value.encode(&mut self.encoded_keys);
        Ok(())
    }

    /// Sets a key to a value read from another file.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn copy(&mut self, key: &str, value: Value<'_>) -> Result<(), WriteError> {
        self.begin_own_key(key, value.value_type())?;
        encode_value(value, &mut self.encoded_keys);
        Ok(())
    }

    fn begin_own_key(&mut self, key: &str, value_type: ValueType) -> Result<(), WriteError> {
        if key == ALIGNMENT_KEY {
            Err(WriteError::AlignmentKey)
        } else {
            self.begin_key(key, value_type)
        }
    }

    fn begin_key(&mut self, key: &str, value_type: ValueType) -> Result<(), WriteError> {
        if !self.keys.insert(key.into()) {
            return Err(WriteError::DuplicateKey { key: key.into() });
        }
        key.encode(&mut self.encoded_keys);
        value_type.id().encode(&mut self.encoded_keys);
        Ok(())
    }

    /// Declares the next tensor, its shape outermost axis first. Returns the bytes of data that it will need.
    ///
    /// # Errors
    /// The name is taken, or the shape cannot be stored.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<u64, WriteError> {
        let offset = self.data_bytes;
        let sizes = || {
            let n_bytes = storage_bytes(dtype, shape)?;
            let end = offset
                .checked_add(n_bytes)?
                .checked_next_multiple_of(self.alignment.into())?;
            Some((n_bytes, end))
        };
        let Some((n_bytes, end)) = sizes() else {
            return Err(WriteError::Shape {
                tensor: name.into(),
                dtype,
                shape: shape.into(),
            });
        };
        if !self.names.insert(name.into()) {
            return Err(WriteError::DuplicateTensor {
                tensor: name.into(),
            });
        }
        self.tensors.push(Declared {
            name: name.into(),
            dtype,
            shape: shape.into(),
            offset,
            n_bytes,
        });
        self.data_bytes = end;
        Ok(n_bytes)
    }

    /// Size of the whole file, header and data.
    pub fn file_bytes(&self) -> u64 {
        (self.encode().len() as u64).saturating_add(self.data_bytes)
    }

    /// Writes the header. The data of all tensors is to follow, in the order in which they were declared.
    ///
    /// # Errors
    /// The system cannot write.
    pub fn write_to<W: Write>(self, mut sink: W) -> Result<GgufWriter<W>, WriteError> {
        sink.write_all(&self.encode())?;
        Ok(GgufWriter {
            sink,
            alignment: self.alignment,
            tensors: self.tensors,
            current: 0,
            given: 0,
        })
    }

    /// The header's bytes, padded to where the data begins.
    fn encode(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        VERSION.encode(&mut out);
        (self.tensors.len() as u64).encode(&mut out);
        (self.keys.len() as u64).encode(&mut out);
        out.extend_from_slice(&self.encoded_keys);
        for Declared {
            name,
            dtype,
            shape,
            offset,
            ..
        } in &self.tensors
        {
            name.encode(&mut out);
            (shape.len() as u32).encode(&mut out);
            for len in shape.iter().rev() {
                (*len as u64).encode(&mut out);
            }
            GgmlType::from(*dtype).id().encode(&mut out);
            offset.encode(&mut out);
        }
        out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        out
    }
}

/// Bytes of a tensor, or `None` if no GGUF file can hold it.
fn storage_bytes(dtype: DType, shape: &[usize]) -> Option<u64> {
    let row_elems = shape.last().copied().unwrap_or(1);
    let n_rows = shape
        .iter()
        .rev()
        .skip(1)
        .try_fold(1usize, |n, len| n.checked_mul(*len))?;
    let n_bytes = dtype.row_bytes(row_elems)?.checked_mul(n_rows)?;
    (shape.len() <= MAX_AXES as usize).then_some(n_bytes as u64)
}

/// A file whose header is written: takes the tensors' data, in pieces of any size.
pub struct GgufWriter<W: Write> {
    sink: W,
    alignment: u32,
    tensors: Vec<Declared>,
    /// Index of the tensor that is being written.
    current: usize,
    /// Bytes given for it.
    given: u64,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the next bytes of the current tensor: the first one, and the next one once it is complete.
    ///
    /// # Errors
    /// More bytes than the current tensor lacks, or the system cannot write.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.skip_complete()?;
        let given = self.given + bytes.len() as u64;
        match self.tensors.get(self.current) {
            Some(tensor) if given <= tensor.n_bytes => {
                self.sink.write_all(bytes)?;
                self.given = given;
                Ok(())
            }
            Some(Declared { name, n_bytes, .. }) => Err(WriteError::TooManyBytes {
                tensor: name.clone(),
                n_bytes: *n_bytes,
                given,
            }),
            None => Err(WriteError::NoTensorLeft { given }),
        }
    }

    /// Pads complete tensors and goes on to the first incomplete one.
    fn skip_complete(&mut self) -> Result<(), WriteError> {
        while let Some(tensor) = self.tensors.get(self.current)
            && self.given == tensor.n_bytes
        {
            let padded = self.given.next_multiple_of(self.alignment.into());
            io::copy(&mut io::repeat(0).take(padded - self.given), &mut self.sink)?;
            self.current += 1;
            self.given = 0;
        }
        Ok(())
    }

    /// Ends the file and gives the sink back, flushed.
    ///
    /// # Errors
    /// A tensor lacks data, or the system cannot write.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.skip_complete()?;
        if let Some(Declared { name, n_bytes, .. }) = self.tensors.get(self.current) {
            return Err(WriteError::MissingBytes {
                tensor: name.clone(),
                n_bytes: *n_bytes,
                given: self.given,
            });
        }
        self.sink.flush()?;
        Ok(self.sink)
    }
}
