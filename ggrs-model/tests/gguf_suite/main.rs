//! Tests of GGUF reading, writing and synthesis through the public API; corruption is tested in `gguf_corrupt.rs`.
//!
//! What is expected comes from files that other programs wrote, from published facts, or from bytes laid out by hand.

#![cfg(test)]

mod dequant;
mod errors;
mod metadata;
mod raw;
mod real_files;
mod round_trip;
mod split;
mod synth;
mod writing;

use std::error::Error;

/// An error with all its causes, as a program would print it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} | {cause}");
        source = cause.source();
    }
    text
}
