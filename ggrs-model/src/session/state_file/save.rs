//! Saving a slot to a state file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::atomic_file::AtomicFile;
use super::error::StateFileError;
use super::fingerprint::ModelIdentity;
use super::header::Header;
use crate::error::SessionError;
use crate::session::slot::Slot;

impl Slot<'_> {
    /// Writes the slot's tokens and the rows of its states to a file, from which [`Slot::load_state`] makes a slot that
    /// goes on bit for bit. The file is complete or not there: one that was there before is replaced at the end.
    ///
    /// # Errors
    /// The file cannot be written, a device cannot be read. The slot stays as it was.
    pub fn save_state(&mut self, path: impl AsRef<Path>) -> Result<(), SessionError> {
        let path = path.as_ref();
        let failed = |source| StateFileError::Write {
            path: path.to_owned(),
            source,
        };
        let id = self.id();
        let session = &mut *self.session;
        let header = Header {
            model: ModelIdentity::of(&session.model),
            tokens: session.tokens_of(id).to_vec(),
            states: session.states.clone(),
        };
        let file = AtomicFile::create(path).map_err(failed)?;
        let mut file = Hashed {
            file: BufWriter::new(file),
            hash: blake3::Hasher::new(),
        };
        file.write(&header.encode()).map_err(failed)?;
        let cells = session.pages.cells(id.0, header.tokens.len());
        for state in &session.states {
            state.read(&mut session.steps, &cells, &mut |rows| {
                Ok(file.write(rows).map_err(failed)?)
            })?;
        }
        Ok(file.finish().map_err(failed)?)
    }
}

/// A file with a checksum of what was written.
struct Hashed {
    file: BufWriter<AtomicFile>,
    hash: blake3::Hasher,
}

impl Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    /// Appends the checksum and completes the file.
    fn finish(mut self) -> io::Result<()> {
        self.file.write_all(self.hash.finalize().as_bytes())?;
        self.file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .commit()
    }
}
