//! The choice of the next token from a model's logits: greedy, or random and reproducible. Knows
//! no model and no text.

mod config;
mod error;
mod sampler;

pub use config::SamplerConfig;
pub use error::{SampleError, SamplerConfigError};
pub use sampler::Sampler;
