//! Sessions: sequences of tokens over a model, their cells in one KV cache, and every way to keep and reuse them.

mod acquire;
mod checkpoints;
mod cursor;
mod decode;
mod open;
mod options;
mod pages;
mod prompt_cache;
mod rows;
mod sequence;
mod slot;
mod state_file;
mod step;

pub use checkpoints::Checkpoint;
pub use open::Session;
pub use options::{Logits, SessionOptions};
pub(crate) use pages::BLOCK;
pub use prompt_cache::PromptCache;
pub use slot::{Slot, SlotId};
pub use state_file::{ModelIdentity, StateFileError};
