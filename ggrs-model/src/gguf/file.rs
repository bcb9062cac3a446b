//! An open GGUF model: one file or all files of a split one, shared cheaply between threads.
//!
//! What the tensors and keys mean to a model is not known here.

use std::collections::HashMap;
use std::fs::File;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::Fault;
use super::error::{GgufError, TensorError};
use super::file_bytes::FileBytes;
use super::metadata::Metadata;
use super::parse::parse;
use super::split;
use super::tensor::{Tensor, TensorEntry};

/// An open GGUF model. Everything in it was checked when it was opened; clones share it.
///
/// ```no_run
/// # fn f() -> Result<(), ggrs_model::gguf::GgufError> {
/// let file = ggrs_model::gguf::GgufFile::open("model.gguf")?;
/// let architecture: &str = file.metadata().require("general.architecture")?;
/// let embedding = file.tensor("token_embd.weight")?;
/// println!("{architecture}: {} {:?}", embedding.dtype, embedding.shape);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct GgufFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    first: Part,
    others: Vec<Part>,
    /// Index of the file, and of the tensor in it.
    by_name: HashMap<String, (usize, usize)>,
}

/// One file of a model, checked.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) bytes: FileBytes,
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorEntry>,
}

impl Part {
    /// Maps a file and checks it.
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        let open_error = |source| GgufError::Open {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(open_error)?;
        let facts = file.metadata().map_err(open_error)?;
        if !facts.is_file() {
            return Err(GgufError::NotAFile { path: path.into() });
        }
        let bytes = if facts.len() == 0 {
            FileBytes::from(&[]) // An empty map is an error on some systems.
        } else {
            FileBytes::map(&file).map_err(|source| GgufError::Map {
                path: path.into(),
                source,
            })?
        };
        Self::check(path.into(), bytes)
    }

    fn check(path: PathBuf, bytes: FileBytes) -> Result<Self, GgufError> {
        match parse(&bytes) {
            Ok(header) => {
                let metadata = Metadata::new(path.clone(), bytes.clone(), header.keys);
                Ok(Self {
                    path,
                    bytes,
                    version: header.version,
                    metadata,
                    tensors: header.tensors,
                })
            }
            Err(Fault { offset, error }) => Err(GgufError::Format {
                path,
                offset: offset as u64,
                source: error,
            }),
        }
    }
}

impl GgufFile {
    /// Opens a model file, and with the first file of a split model all others.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, is not a valid GGUF file, or is part of a split model whose files are
    /// missing or don't match.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let first = Part::open(path.as_ref())?;
        let others = split::open_others(&first)?;
        Ok(Self::join(first, others))
    }

    /// Reads a model from memory, such as one that `include_bytes!` put into the program. `name` stands for the path
    /// in errors.
    ///
    /// # Errors
    /// The bytes are not a valid GGUF file, or the first file of a split model.
    pub fn from_bytes(
        name: impl Into<PathBuf>,
        bytes: impl Into<FileBytes>,
    ) -> Result<Self, GgufError> {
        let part = Part::check(name.into(), bytes.into())?;
        split::refuse_in_memory(&part)?;
        Ok(Self::join(part, Vec::new()))
    }

    fn join(mut first: Part, mut others: Vec<Part>) -> Self {
        let mut by_name = HashMap::new();
        for (file_idx, part) in iter::once(&mut first).chain(&mut others).enumerate() {
            for (tensor_idx, entry) in part.tensors.iter_mut().enumerate() {
                entry.file_idx = file_idx;
                by_name.insert(entry.name.clone(), (file_idx, tensor_idx));
            }
        }
        Self(Arc::new(Inner {
            first,
            others,
            by_name,
        }))
    }

    /// The GGUF version of the (first) file: 2 or 3.
    pub fn version(&self) -> u32 {
        self.0.first.version
    }

    /// The files of the model, in order: one, or all parts of a split model.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.parts().map(|part| part.path.as_path())
    }

    /// Size of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.0.parts().map(|part| part.bytes.len() as u64).sum()
    }

    /// The keys of the (first) file.
    pub fn metadata(&self) -> &Metadata {
        &self.0.first.metadata
    }

    /// What the files say about their tensors, in file order; those of unsupported types too.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorEntry> {
        self.0.parts().flat_map(|part| &part.tensors)
    }

    /// Is there a tensor of this name? It may be of an unsupported type.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.0.by_name.contains_key(name)
    }

    /// The tensor of this name: dtype, shape, and its bytes in place.
    ///
    /// # Errors
    /// [`TensorError::Missing`] or [`TensorError::UnsupportedType`].
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, GgufError> {
        self.0.find(name).map_err(|source| GgufError::Tensor {
            path: self.0.first.path.clone(),
            source,
        })
    }
}

impl Inner {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        iter::once(&self.first).chain(&self.others)
    }

    fn find(&self, name: &str) -> Result<Tensor<'_>, TensorError> {
        let found = self.by_name.get(name).and_then(|(file_idx, tensor_idx)| {
            let part = self.parts().nth(*file_idx)?;
            Some((part, part.tensors.get(*tensor_idx)?))
        });
        let Some((part, entry)) = found else {
            return Err(TensorError::Missing {
                tensor: name.into(),
                n_tensors: self.by_name.len(),
            });
        };
        let unsupported = || TensorError::UnsupportedType {
            tensor: name.into(),
            ggml_type: entry.ggml_type,
        };
        let dtype = entry.ggml_type.dtype().ok_or_else(unsupported)?;
        let bytes = entry
            .data_range()
            .and_then(|range| part.bytes.get(range))
            .ok_or_else(unsupported)?;
        Ok(Tensor {
            name: &entry.name,
            dtype,
            shape: &entry.shape,
            bytes,
        })
    }
}
