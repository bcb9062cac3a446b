//! The commands, one a file: each with its arguments and what it does.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod devices;
pub(crate) mod inspect;
#[cfg(feature = "cuda")]
pub(crate) mod kernels;
pub(crate) mod logits;
pub(crate) mod perplexity;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod synth;
pub(crate) mod tokenize;
