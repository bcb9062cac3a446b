//! The architectures: each reads its sizes from a file's metadata and builds its graph from shared blocks.

pub mod qwen3moe;

use ggrs_core::{DType, Graph};

use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::weights::first_path;

/// The architectures that GGRS builds, by their name in GGUF files.
pub const ARCHITECTURES: &[&str] = &["qwen3moe"];

/// The sizes of a session that enter the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShape {
    /// The most tokens in one step.
    pub max_tokens: usize,
    /// Sequences that can be open at once.
    pub n_slots: usize,
    /// Blocks of KV cells for each slot.
    pub n_blocks: usize,
    /// Cells per block.
    pub block: usize,
    /// What keys and values are kept as.
    pub kv_dtype: DType,
    /// For a step that goes on by itself: its sequences, whose tokens stand in a cursor on the device, where the next
    /// ones are chosen as well. `None` for one whose tokens the host writes and whose logits it reads.
    pub decode: Option<usize>,
}

impl StepShape {
    /// The smallest step there is, for asking about weights.
    pub(crate) const SMALLEST: Self = Self {
        max_tokens: 2,
        n_slots: 1,
        n_blocks: 1,
        block: 1,
        kv_dtype: DType::F32,
        decode: None,
    };

    /// Cells of the KV cache.
    pub const fn n_cells(&self) -> usize {
        self.n_slots
            .saturating_mul(self.n_blocks)
            .saturating_mul(self.block)
    }
}

/// A model's architecture with its sizes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// Qwen3 mixture of experts.
    Qwen3Moe(qwen3moe::Config),
}

impl Architecture {
    /// Reads the architecture and its sizes.
    ///
    /// # Errors
    /// An architecture that GGRS does not know, a key that is missing or impossible.
    pub fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let name: &str = file.metadata().require("general.architecture")?;
        match name {
            "qwen3moe" => Ok(Self::Qwen3Moe(qwen3moe::Config::read(file)?)),
            _ => Err(ModelError::UnknownArchitecture {
                path: first_path(file),
                found: name.to_owned(),
                known: ARCHITECTURES,
            }),
        }
    }

    /// The graph of one step, with symbols for tokens and rows of logits.
    ///
    /// # Errors
    /// A tensor that is missing or of the wrong shape or type.
    pub fn graph(&self, file: &GgufFile, shape: &StepShape) -> Result<Graph, ModelError> {
        match self {
            Self::Qwen3Moe(config) => config.graph(file, shape),
        }
    }

    /// The architecture's name in GGUF files.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Qwen3Moe(_) => "qwen3moe",
        }
    }

    /// Size of the vocabulary.
    pub const fn n_vocab(&self) -> usize {
        match self {
            Self::Qwen3Moe(c) => c.n_vocab,
        }
    }

    /// Number of layers.
    pub const fn n_layers(&self) -> usize {
        match self {
            Self::Qwen3Moe(c) => c.n_layers,
        }
    }

    /// Tokens that the model was trained to look back over.
    pub const fn n_ctx_train(&self) -> usize {
        match self {
            Self::Qwen3Moe(c) => c.n_ctx_train,
        }
    }
}

/// A key's value, checked to be in a range.
pub(crate) fn size(
    file: &GgufFile,
    key: &str,
    range: std::ops::RangeInclusive<usize>,
    rule: &'static str,
) -> Result<usize, ModelError> {
    let found: u64 = file.metadata().require(key)?;
    match usize::try_from(found) {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(ModelError::Key {
            path: first_path(file),
            key: key.to_owned(),
            found,
            rule,
        }),
    }
}
