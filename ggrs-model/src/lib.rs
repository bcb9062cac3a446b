//! GGUF files, tokenizers, model graphs and sessions of GGRS.
//!
//! This crate adds no kernels: what a model computes is a graph of `ggrs-core` that any device runs.

pub mod gguf;
pub mod synth;
