//! Why a synthetic model cannot be written.
//!
//! Errors are data with a sentence; this file must not know how they come about.

use std::io;
use std::path::PathBuf;

use crate::gguf::writer::WriteError;

use super::mix::Mix;
use super::presets::Preset;
use super::vocab::Vocab;

/// A synthetic model that cannot be described or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// No preset has this name.
    #[error("unknown preset '{found}'; expected one of {}", names(&Preset::ALL.map(Preset::name)))]
    UnknownPreset {
        /// The name given.
        found: String,
    },
    /// No quantization has this name.
    #[error("unknown quantization '{found}'; expected one of {}", names(&Mix::all().map(Mix::name).collect::<Vec<_>>()))]
    UnknownMix {
        /// The name given.
        found: String,
    },
    /// No vocabulary has this name.
    #[error("unknown vocabulary '{found}'; expected one of {}", names(&Vocab::ALL.map(Vocab::name)))]
    UnknownVocab {
        /// The name given.
        found: String,
    },
    /// A number of layers that makes no model.
    #[error("a synthetic model can have 1 to {max} layers, found {found}")]
    LayerCount {
        /// The number asked for.
        found: usize,
        /// The most that are written.
        max: usize,
    },
    /// The file cannot be created or put in its place.
    #[error("cannot create {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The model cannot be written.
    #[error("cannot write the synthetic model")]
    Write(#[from] WriteError),
}

fn names(names: &[&str]) -> String {
    names.join(", ")
}
