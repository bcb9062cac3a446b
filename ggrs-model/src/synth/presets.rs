//! The models that can be synthesized: names and numbers.
//!
//! The numbers of real models are from their published configurations; Gemma's KV heads in global layers and its dense
//! FFN width are as recalled. This file must not know which tensors an architecture has.

use std::str::FromStr;

use crate::gguf::writer::WriteError;

use super::error::SynthError;
use super::outline::Outline;
use super::{gemma4, qwen3moe, qwen35moe};

/// A model whose shape is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Qwen3-30B-A3B.
    Qwen3Moe30b,
    /// A `qwen3moe` of 1 to 2 GB that a laptop runs.
    Qwen3MoeSmall,
    /// A `qwen3moe` of a few MB for tests.
    Qwen3MoeTiny,
    /// Qwen3.5-35B-A3B and Qwen3.6-35B-A3B, with the drafting layer.
    Qwen35Moe35b,
    /// A `qwen35moe` that a laptop runs.
    Qwen35MoeSmall,
    /// A `qwen35moe` of a few MB for tests.
    Qwen35MoeTiny,
    /// Gemma-4-26B-A4B.
    Gemma4Moe26b,
    /// A `gemma4` with experts that a laptop runs.
    Gemma4MoeSmall,
    /// A `gemma4` with experts of a few MB for tests.
    Gemma4MoeTiny,
}

/// A preset's architecture with its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Model {
    Qwen3Moe(qwen3moe::Shape),
    Qwen35Moe(qwen35moe::Shape),
    Gemma4(gemma4::Shape),
}

impl Model {
    pub(super) const fn arch(&self) -> &'static str {
        match self {
            Self::Qwen3Moe(_) => "qwen3moe",
            Self::Qwen35Moe(_) => "qwen35moe",
            Self::Gemma4(_) => "gemma4",
        }
    }

    pub(super) const fn vocab(&self) -> usize {
        match self {
            Self::Qwen3Moe(shape) => shape.vocab,
            Self::Qwen35Moe(shape) => shape.vocab,
            Self::Gemma4(shape) => shape.vocab,
        }
    }

    /// Layers, without those that only draft.
    pub(super) const fn n_layers(&mut self) -> &mut usize {
        match self {
            Self::Qwen3Moe(shape) => &mut shape.n_layers,
            Self::Qwen35Moe(shape) => &mut shape.n_layers,
            Self::Gemma4(shape) => &mut shape.n_layers,
        }
    }

    pub(super) fn outline(&self, out: &mut Outline) -> Result<(), WriteError> {
        match self {
            Self::Qwen3Moe(shape) => shape.outline(out),
            Self::Qwen35Moe(shape) => shape.outline(out),
            Self::Gemma4(shape) => shape.outline(out),
        }
    }
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 9] = [
        Self::Qwen3Moe30b,
        Self::Qwen3MoeSmall,
        Self::Qwen3MoeTiny,
        Self::Qwen35Moe35b,
        Self::Qwen35MoeSmall,
        Self::Qwen35MoeTiny,
        Self::Gemma4Moe26b,
        Self::Gemma4MoeSmall,
        Self::Gemma4MoeTiny,
    ];

    /// The preset's name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qwen3Moe30b => "qwen3-30b-a3b",
            Self::Qwen3MoeSmall => "qwen3moe-small",
            Self::Qwen3MoeTiny => "qwen3moe-tiny",
            Self::Qwen35Moe35b => "qwen3.6-35b-a3b",
            Self::Qwen35MoeSmall => "qwen35moe-small",
            Self::Qwen35MoeTiny => "qwen35moe-tiny",
            Self::Gemma4Moe26b => "gemma-4-26b-a4b",
            Self::Gemma4MoeSmall => "gemma4moe-small",
            Self::Gemma4MoeTiny => "gemma4moe-tiny",
        }
    }

    pub(super) const fn model(self) -> Model {
        match self {
            Self::Qwen3Moe30b => Model::Qwen3Moe(qwen3moe::Shape {
                embd: 2048,
                n_layers: 48,
                n_heads: 32,
                n_kv_heads: 4,
                head_dim: 128,
                n_experts: 128,
                n_experts_used: 8,
                expert_ff: 768,
                vocab: 151_936,
            }),
            Self::Qwen3MoeSmall => Model::Qwen3Moe(qwen3moe::Shape {
                embd: 1024,
                n_layers: 16,
                n_heads: 16,
                n_kv_heads: 4,
                head_dim: 128,
                n_experts: 64,
                n_experts_used: 8,
                expert_ff: 768,
                vocab: 151_936,
            }),
            Self::Qwen3MoeTiny => Model::Qwen3Moe(qwen3moe::Shape {
                embd: 256,
                n_layers: 3,
                n_heads: 8,
                n_kv_heads: 2,
                head_dim: 64,
                n_experts: 8,
                n_experts_used: 2,
                expert_ff: 256,
                vocab: 512,
            }),
            Self::Qwen35Moe35b => Model::Qwen35Moe(qwen35moe::Shape {
                embd: 2048,
                n_layers: 40,
                n_heads: 16,
                n_kv_heads: 2,
                head_dim: 256,
                rope_dims: 64,
                rope_sections: [11, 11, 10, 0],
                n_experts: 256,
                n_experts_used: 8,
                expert_ff: 512,
                shared_ff: 512,
                n_state_k_heads: 16,
                n_state_v_heads: 32,
                state_dim: 128,
                vocab: 248_320,
            }),
            Self::Qwen35MoeSmall => Model::Qwen35Moe(qwen35moe::Shape {
                embd: 1024,
                n_layers: 16,
                n_heads: 8,
                n_kv_heads: 2,
                head_dim: 256,
                rope_dims: 64,
                rope_sections: [11, 11, 10, 0],
                n_experts: 64,
                n_experts_used: 8,
                expert_ff: 512,
                shared_ff: 512,
                n_state_k_heads: 8,
                n_state_v_heads: 16,
                state_dim: 128,
                vocab: 151_936,
            }),
            Self::Qwen35MoeTiny => Model::Qwen35Moe(qwen35moe::Shape {
                embd: 256,
                n_layers: 4,
                n_heads: 4,
                n_kv_heads: 1,
                head_dim: 64,
                rope_dims: 16,
                rope_sections: [3, 3, 2, 0],
                n_experts: 8,
                n_experts_used: 2,
                expert_ff: 256,
                shared_ff: 256,
                n_state_k_heads: 2,
                n_state_v_heads: 4,
                state_dim: 64,
                vocab: 512,
            }),
            Self::Gemma4Moe26b => Model::Gemma4(gemma4::Shape {
                embd: 2816,
                n_layers: 30,
                n_heads: 16,
                n_kv_heads: 8,
                n_kv_heads_global: 2,
                head_dim: 256,
                head_dim_global: 512,
                window: 1024,
                ff: 2112,
                n_experts: 128,
                n_experts_used: 8,
                expert_ff: 704,
                vocab: 262_144,
            }),
            Self::Gemma4MoeSmall => Model::Gemma4(gemma4::Shape {
                embd: 1024,
                n_layers: 12,
                n_heads: 8,
                n_kv_heads: 4,
                n_kv_heads_global: 1,
                head_dim: 256,
                head_dim_global: 512,
                window: 1024,
                ff: 1024,
                n_experts: 32,
                n_experts_used: 4,
                expert_ff: 512,
                vocab: 151_936,
            }),
            Self::Gemma4MoeTiny => Model::Gemma4(gemma4::Shape {
                embd: 256,
                n_layers: 6,
                n_heads: 4,
                n_kv_heads: 2,
                n_kv_heads_global: 1,
                head_dim: 64,
                head_dim_global: 128,
                window: 64,
                ff: 256,
                n_experts: 8,
                n_experts_used: 2,
                expert_ff: 256,
                vocab: 512,
            }),
        }
    }
}

impl FromStr for Preset {
    type Err = SynthError;

    fn from_str(name: &str) -> Result<Self, SynthError> {
        let unknown = || SynthError::UnknownPreset { found: name.into() };
        Self::ALL
            .into_iter()
            .find(|preset| preset.name().eq_ignore_ascii_case(name))
            .ok_or_else(unknown)
    }
}
