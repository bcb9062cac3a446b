//! Why a state file cannot be written or used.

use std::io;
use std::path::PathBuf;

use ggrs_core::DType;

use super::fingerprint::ModelIdentity;

/// Why a state file cannot be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// The file cannot be read.
    #[error("{}: the state cannot be read at offset {offset}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written; what was there before is still there.
    #[error("{}: the state cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another kind of file.
    #[error(
        "{}: not a state file of GGRS: it begins with \"{}\" at offset 0, not with \"GGRSSLOT\"",
        path.display(), found.escape_ascii()
    )]
    NotAStateFile {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// A version that this GGRS does not know.
    #[error(
        "{}: version {found} at offset 8 is not known, only version {supported}; save the state again with this GGRS",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// What can be read.
        supported: u32,
    },
    /// A file that was cut, or to which something was added.
    #[error(
        "{}: the file is {found} bytes long and should be {expected} (offset 12): it is cut short or damaged; save the state again",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length, as it says itself, or the shortest possible.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// Bytes that are not those that were written.
    #[error(
        "{}: the checksum at offset {offset} is not that of the bytes before it: the file is damaged; save the state again",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Where the checksum is.
        offset: u64,
    },
    /// A value in the header that cannot be.
    #[error("{}: {what} at offset {offset} is not possible: it must be {rule}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Where the value is.
        offset: u64,
        /// Which value.
        what: &'static str,
        /// The rule in words.
        rule: &'static str,
    },
    /// The state of another model.
    #[error("{}: the state is of model {found}, this one is {expected}; load that model", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The file's model.
        found: Box<ModelIdentity>,
        /// The session's.
        expected: Box<ModelIdentity>,
    },
    /// Keys and values of another type.
    #[error(
        "{}: \"{state}\" is kept as {found} in the file and as {expected} in the session; open the session with KV type {} (--kv-type {})",
        path.display(), found.name(), found.name().to_lowercase()
    )]
    KvType {
        /// The file.
        path: PathBuf,
        /// The state.
        state: String,
        /// Its type in the file.
        found: DType,
        /// Its type in the session.
        expected: DType,
    },
    /// States that the session does not have.
    #[error(
        "{}: state {index} is \"{found}\" with {found_bytes} bytes a row; this GGRS keeps \"{expected}\" with {expected_bytes}; save the state again with this GGRS",
        path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// Which of the states.
        index: usize,
        /// Its name in the file.
        found: String,
        /// Its bytes for each token there.
        found_bytes: usize,
        /// Its name in the session.
        expected: String,
        /// Its bytes for each token there.
        expected_bytes: usize,
    },
    /// Another number of states.
    #[error("{}: the file has {found} states, this GGRS keeps {expected}; save the state again with this GGRS", path.display())]
    StateCount {
        /// The file.
        path: PathBuf,
        /// States in the file.
        found: usize,
        /// States of the session.
        expected: usize,
    },
    /// More tokens than a slot holds.
    #[error(
        "{}: the state has {n_tokens} tokens, the context holds {n_ctx}; ask for a longer context (--ctx)",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its tokens.
        n_tokens: usize,
        /// Room in all.
        n_ctx: usize,
    },
}
