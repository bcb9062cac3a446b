//! GGUF files, tokenizers, model graphs and sessions of GGRS.
//!
//! This crate adds no kernels: what a model computes is a graph of `ggrs-core` that any device runs. A [`Model`] is a
//! file's weights on a device; a [`Session`] is a sequence of tokens over it; [`Session::generate`] answers.

pub mod arch;
mod blocks;
mod buckets;
pub mod chat;
mod deployment;
mod error;
pub mod fit;
mod generate;
pub mod gguf;
mod model;
mod preview;
pub mod sampling;
mod session;
mod step;
pub mod synth;
pub mod tokenizer;
mod vocabulary;
mod weights;

pub use arch::{Architecture, StepShape};
pub use deployment::{DeployError, Deployment, HostExperts, Override, SplitMode};
pub use error::{ModelError, SessionError};
pub use generate::{Event, Finish, GenerateOptions, Generation};
pub use model::{LoadOptions, Model};
pub use preview::preview;
pub use session::{
    Checkpoint, Logits, ModelIdentity, PromptCache, Session, SessionOptions, Slot, SlotId,
    StateFileError,
};
pub use vocabulary::load_tokenizer;
