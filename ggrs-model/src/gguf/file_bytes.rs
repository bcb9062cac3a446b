//! Where a file's bytes are: mapped from disk, part of the program, or in memory. The only unsafe code of the reader.
//!
//! This file must not know what the bytes mean.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

/// The bytes of one GGUF file, shared without copying.
#[derive(Clone, Debug)]
pub struct FileBytes(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl FileBytes {
    /// Maps a file, read-only.
    ///
    /// # Errors
    /// What the system says when the file cannot be mapped.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private to this process and read-only. Another process that rewrites the file while it
        // is mapped would change bytes under us; no reader of mapped model files can exclude that, and all offsets
        // used later come from a copy that was checked against the length mapped here.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(Repr::Mapped(Arc::new(map))))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Mapped(map) => map,
            Repr::Static(bytes) => bytes,
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl From<&'static [u8]> for FileBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Repr::Static(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for FileBytes {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self(Repr::Static(bytes))
    }
}

impl From<Arc<[u8]>> for FileBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Repr::Shared(bytes))
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Shared(bytes.into()))
    }
}
