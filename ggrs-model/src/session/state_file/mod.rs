//! State files: a slot's tokens and the rows of its states in a file, from which a session of any size and on any
//! devices goes on bit for bit.
//!
//! Little-endian, in this order:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `GGRSSLOT` |
//! | 4 | version, 1 |
//! | 8 | length of the file |
//! | 8 | length of the header that follows |
//! | | header: architecture, 32 bytes of the model's fingerprint, number of tokens (8) and their ids (4 each), number of states (4); of each state name, dtype, bytes of a row (8). Texts are a length (4) and UTF-8. |
//! | | for each state, the rows of all tokens in order of position |
//! | 32 | BLAKE3 of everything before |
//!
//! Pages, slots, context lengths and devices are not in it: rows are logical and go by position.

mod atomic_file;
mod error;
mod fingerprint;
mod header;
mod load;
mod save;

pub use error::StateFileError;
pub use fingerprint::ModelIdentity;
