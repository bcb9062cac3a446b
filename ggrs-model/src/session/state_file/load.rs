//! Loading a state file into a slot: everything is checked before the first byte is written to the cache.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::error::StateFileError;
use super::fingerprint::ModelIdentity;
use super::header::{CHECKSUM_BYTES, Header, MAGIC, PREFIX_BYTES, VERSION};
use crate::error::SessionError;
use crate::session::open::Session;
use crate::session::slot::Slot;

impl Slot<'_> {
    /// Makes the slot what [`Slot::save_state`] wrote, whatever the context length, slots and devices were.
    ///
    /// # Errors
    /// A file that cannot be read, is none of this model, is damaged, does not fit: the slot stays as it was. If
    /// reading or a device fails after all that was checked, the slot is empty.
    pub fn load_state(&mut self, path: impl AsRef<Path>) -> Result<(), SessionError> {
        let path = path.as_ref();
        let mut file = StateFile::open(path)?;
        file.verify()?;
        let header = file.header()?;
        self.session.accept(path, &header)?;
        self.truncate(0);
        let done = self.fill(&mut file, header);
        if done.is_err() {
            // Has no tokens yet, but cells.
            self.truncate(0);
        }
        done
    }

    /// Writes a file's rows to the cells of an empty slot, then its tokens.
    fn fill(&mut self, file: &mut StateFile<'_>, header: Header) -> Result<(), SessionError> {
        let id = self.id();
        let session = &mut *self.session;
        session.make_room(id, 0, header.tokens.len())?;
        let cells = session.pages.cells(id.0, header.tokens.len());
        for state in &session.states {
            state.write(&mut session.steps, &cells, &mut |rows| Ok(file.read(rows)?))?;
        }
        self.sequence_mut().tokens = header.tokens;
        Ok(())
    }
}

impl Session {
    /// Can a slot hold what the file holds?
    fn accept(&self, path: &Path, header: &Header) -> Result<(), SessionError> {
        let path = || path.to_owned();
        let expected = ModelIdentity::of(&self.model);
        if header.model != expected {
            let (found, expected) = (Box::new(header.model.clone()), Box::new(expected));
            let path = path();
            return Err(StateFileError::Model {
                path,
                found,
                expected,
            }
            .into());
        }
        for (index, (found, expected)) in header.states.iter().zip(&self.states).enumerate() {
            if found.name == expected.name && found.dtype != expected.dtype {
                return Err(StateFileError::KvType {
                    path: path(),
                    state: found.name.clone(),
                    found: found.dtype,
                    expected: expected.dtype,
                }
                .into());
            }
            if found != expected {
                return Err(StateFileError::State {
                    path: path(),
                    index,
                    found: found.name.clone(),
                    found_bytes: found.row_bytes,
                    expected: expected.name.clone(),
                    expected_bytes: expected.row_bytes,
                }
                .into());
            }
        }
        if header.states.len() != self.states.len() {
            return Err(StateFileError::StateCount {
                path: path(),
                found: header.states.len(),
                expected: self.states.len(),
            }
            .into());
        }
        if header.tokens.len() > self.n_ctx {
            return Err(StateFileError::TooLong {
                path: path(),
                n_tokens: header.tokens.len(),
                n_ctx: self.n_ctx,
            }
            .into());
        }
        if header.tokens.is_empty() {
            return Ok(());
        }
        self.check_tokens(&header.tokens, 0)
    }
}

/// A state file that is being read.
struct StateFile<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Where it is read next.
    offset: u64,
    header_bytes: u64,
    file_bytes: u64,
}

impl<'a> StateFile<'a> {
    /// Opens a file that says that it is a state file of the known version and of its own length.
    fn open(path: &'a Path) -> Result<Self, StateFileError> {
        let opened = File::open(path).and_then(|f| Ok((f.metadata()?.len(), f)));
        let (found, file) = opened.map_err(|source| StateFileError::Read {
            path: path.to_owned(),
            offset: 0,
            source,
        })?;
        let mut file = Self {
            path,
            file: BufReader::with_capacity(1 << 16, file),
            offset: 0,
            header_bytes: 0,
            file_bytes: found,
        };
        let mut magic = MAGIC;
        let n = MAGIC
            .len()
            .min(usize::try_from(found).unwrap_or(usize::MAX));
        let magic = magic.get_mut(..n).unwrap_or_default();
        file.read(magic)?;
        if !MAGIC.starts_with(magic) || magic.is_empty() {
            return Err(StateFileError::NotAStateFile {
                path: path.to_owned(),
                found: magic.to_vec(),
            });
        }
        let length = |expected| StateFileError::Length {
            path: path.to_owned(),
            expected,
            found,
        };
        let least = PREFIX_BYTES + CHECKSUM_BYTES;
        if found < least {
            return Err(length(least));
        }
        let version = u32::from_le_bytes(file.array()?);
        if version != VERSION {
            return Err(StateFileError::Version {
                path: path.to_owned(),
                found: version,
                supported: VERSION,
            });
        }
        let says = u64::from_le_bytes(file.array()?);
        if says != found {
            return Err(length(says));
        }
        file.header_bytes = u64::from_le_bytes(file.array()?);
        Ok(file)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateFileError> {
        let mut array = [0; N];
        self.read(&mut array)?;
        Ok(array)
    }

    fn read(&mut self, to: &mut [u8]) -> Result<(), StateFileError> {
        let done = self.file.read_exact(to);
        done.map_err(|source| self.error(source))?;
        self.offset += to.len() as u64;
        Ok(())
    }

    fn seek(&mut self, offset: u64) -> Result<(), StateFileError> {
        let done = self.file.seek(SeekFrom::Start(offset));
        done.map_err(|source| self.error(source))?;
        self.offset = offset;
        Ok(())
    }

    fn error(&self, source: io::Error) -> StateFileError {
        StateFileError::Read {
            path: self.path.to_owned(),
            offset: self.offset,
            source,
        }
    }

    /// Are the bytes those that were written?
    fn verify(&mut self) -> Result<(), StateFileError> {
        self.seek(0)?;
        let mut hash = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let end = self.file_bytes - CHECKSUM_BYTES;
        while self.offset < end {
            let left = usize::try_from(end - self.offset).unwrap_or(usize::MAX);
            let n = left.min(buffer.len());
            let part = buffer.get_mut(..n).unwrap_or_default();
            self.read(part)?;
            hash.update(part);
        }
        let checksum: [u8; 32] = self.array()?;
        if hash.finalize() != checksum {
            return Err(StateFileError::Checksum {
                path: self.path.to_owned(),
                offset: end,
            });
        }
        Ok(())
    }

    /// The header; the rows are read next.
    fn header(&mut self) -> Result<Header, StateFileError> {
        self.seek(PREFIX_BYTES)?;
        let wrong = |offset, what, rule| StateFileError::Header {
            path: self.path.to_owned(),
            offset,
            what,
            rule,
        };
        let most = self.file_bytes - PREFIX_BYTES - CHECKSUM_BYTES;
        let n = usize::try_from(self.header_bytes).ok();
        let n = n.filter(|_| self.header_bytes <= most);
        let n = n.ok_or_else(|| wrong(20, "the header's length", "less than the file's"))?;
        let mut bytes = vec![0; n];
        self.read(&mut bytes)?;
        let header = Header::parse(self.path, &bytes)?;
        if header.file_bytes(self.header_bytes) != Some(self.file_bytes) {
            let rule = "such that the rows end where the checksum begins";
            return Err(wrong(PREFIX_BYTES, "the header's tokens and states", rule));
        }
        Ok(header)
    }
}
