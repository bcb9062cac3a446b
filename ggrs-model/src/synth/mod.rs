//! Synthetic models: GGUF files with a real model's shapes and random, valid weights, for benchmarks and tests.
//!
//! Such a model computes at the speed of a real one and its activations stay finite, but what it says means nothing.
//! This module knows the tensor lists and keys of architectures. It must not know how they are computed.

mod blocks;
mod error;
mod gemma4;
mod mix;
mod outline;
mod pool;
mod presets;
mod qwen35moe;
mod qwen3moe;
mod vocab;
mod write;

pub use error::SynthError;
pub use mix::Mix;
pub use presets::Preset;
pub use vocab::Vocab;
pub use write::{SynthReport, SynthSpec, describe, write, write_to};
