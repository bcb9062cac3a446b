//! Keys and tensors of `gemma4` with experts (Gemma-4-26B-A4B): five sliding-window layers to one global layer, a dense
//! FFN beside routed experts in each, and token embeddings that are the output matrix too.
//!
//! Names and shapes only; the computation is in the model's own file.

use crate::gguf::writer::WriteError;

use super::mix::Role;
use super::outline::{Fill, Outline};

/// Every layer with this number, counted from 1, sees the whole context; and so does the last one.
const GLOBAL_INTERVAL: usize = 6;

/// The numbers that make a model of this architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) embd: usize,
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    /// Of sliding-window layers, and of global ones.
    pub(super) n_kv_heads: usize,
    pub(super) n_kv_heads_global: usize,
    pub(super) head_dim: usize,
    pub(super) head_dim_global: usize,
    pub(super) window: usize,
    /// Of the dense FFN.
    pub(super) ff: usize,
    pub(super) n_experts: usize,
    pub(super) n_experts_used: usize,
    pub(super) expert_ff: usize,
    pub(super) vocab: usize,
}

impl Shape {
    fn is_global(&self, layer: usize) -> bool {
        (layer + 1).is_multiple_of(GLOBAL_INTERVAL) || layer + 1 == self.n_layers
    }

    fn layer_kv_heads(&self, layer: usize) -> usize {
        if self.is_global(layer) {
            self.n_kv_heads_global
        } else {
            self.n_kv_heads
        }
    }

    pub(super) fn outline(&self, out: &mut Outline) -> Result<(), WriteError> {
        self.keys(out)?;
        out.weight("token_embd", Role::Output, &[self.vocab, self.embd], 1.0);
        out.norm("output_norm", self.embd);
        // Only a quarter of a global head's dimensions rotate: an eighth in pairs.
        let n_rotated = self.head_dim_global / 8;
        out.unquantized(
            "rope_freqs.weight",
            &[self.head_dim_global / 2],
            Fill::RopeFactors { n_rotated },
        );
        for layer in 0..self.n_layers {
            out.enter_layer(layer);
            self.attention(layer, out);
            self.feed_forward(out);
        }
        Ok(())
    }

    fn keys(&self, out: &mut Outline) -> Result<(), WriteError> {
        out.counts(&[
            ("context_length", 262_144),
            ("embedding_length", self.embd),
            ("block_count", self.n_layers),
            ("feed_forward_length", self.ff),
            ("embedding_length_per_layer_input", 0),
            ("attention.head_count", self.n_heads),
            ("attention.key_length", self.head_dim_global),
            ("attention.value_length", self.head_dim_global),
            ("attention.key_length_swa", self.head_dim),
            ("attention.value_length_swa", self.head_dim),
            ("attention.sliding_window", self.window),
            ("attention.shared_kv_layers", 0),
            ("rope.dimension_count", self.head_dim_global),
            ("rope.dimension_count_swa", self.head_dim),
            ("expert_count", self.n_experts),
            ("expert_used_count", self.n_experts_used),
            ("expert_feed_forward_length", self.expert_ff),
            ("vocab_size", self.vocab),
        ])?;
        out.key("attention.layer_norm_rms_epsilon", 1e-6f32)?;
        out.key("rope.freq_base", 1e6f32)?;
        out.key("rope.freq_base_swa", 1e4f32)?;
        out.key("final_logit_softcapping", 30f32)?;
        let kv_heads: Vec<i32> = (0..self.n_layers)
            .map(|layer| self.layer_kv_heads(layer) as i32)
            .collect();
        out.key("attention.head_count_kv", kv_heads)?;
        let is_sliding: Vec<bool> = (0..self.n_layers)
            .map(|layer| !self.is_global(layer))
            .collect();
        out.key("attention.sliding_window_pattern", is_sliding)
    }

    fn attention(&self, layer: usize, out: &mut Outline) {
        let head_dim = if self.is_global(layer) {
            self.head_dim_global
        } else {
            self.head_dim
        };
        let (embd, q_dim, kv_dim) = (
            self.embd,
            self.n_heads * head_dim,
            self.layer_kv_heads(layer) * head_dim,
        );
        // Scores are not divided by sqrt(head_dim) in this model, so the norms keep them small.
        let head_norm = (1.5 / (head_dim as f32).sqrt()).sqrt();
        out.norm("attn_norm", embd);
        out.weight("attn_q", Role::Matrix, &[q_dim, embd], 1.0);
        out.weight("attn_k", Role::Matrix, &[kv_dim, embd], 1.0);
        if !self.is_global(layer) {
            out.weight("attn_v", Role::AttnValue, &[kv_dim, embd], 1.0); // global layers use the keys
        }
        out.weight("attn_output", Role::AttnOutput, &[embd, q_dim], 1.0);
        for name in ["attn_q_norm.weight", "attn_k_norm.weight"] {
            out.vector(name, head_dim, 0.9 * head_norm, 1.1 * head_norm);
        }
        out.norm("post_attention_norm", embd);
    }

    fn feed_forward(&self, out: &mut Outline) {
        let embd = self.embd;
        out.norm("ffn_norm", embd);
        out.weight("ffn_gate", Role::Matrix, &[self.ff, embd], 1.0);
        out.weight("ffn_up", Role::Matrix, &[self.ff, embd], 1.0);
        out.weight("ffn_down", Role::FfnDown, &[embd, self.ff], 1.0);
        for name in [
            "post_ffw_norm",
            "post_ffw_norm_1",
            "post_ffw_norm_2",
            "pre_ffw_norm_2",
        ] {
            out.norm(name, embd);
        }
        out.vector("layer_output_scale.weight", 1, 0.8, 1.0);
        // The router's input is already divided by sqrt(embd).
        out.weight_with_std(
            "ffn_gate_inp",
            Role::Unquantized,
            &[self.n_experts, embd],
            2.0,
        );
        out.vector("ffn_gate_inp.scale", embd, 0.9, 1.1);
        out.weight(
            "ffn_gate_up_exps",
            Role::Expert,
            &[self.n_experts, 2 * self.expert_ff, embd],
            1.0,
        );
        out.weight(
            "ffn_down_exps",
            Role::ExpertDown,
            &[self.n_experts, embd, self.expert_ff],
            1.0,
        );
        out.vector("ffn_down_exps.scale", self.n_experts, 0.8, 1.2);
    }
}
