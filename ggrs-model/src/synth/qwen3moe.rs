//! Keys and tensors of `qwen3moe` (Qwen3-30B-A3B): attention with head norms, then routed experts, in every layer.
//!
//! Names and shapes only; the computation is in the model's own file.

use crate::gguf::writer::WriteError;

use super::mix::Role;
use super::outline::Outline;

/// The numbers that make a model of this architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) embd: usize,
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) n_experts: usize,
    pub(super) n_experts_used: usize,
    pub(super) expert_ff: usize,
    pub(super) vocab: usize,
}

impl Shape {
    pub(super) fn outline(&self, out: &mut Outline) -> Result<(), WriteError> {
        self.keys(out)?;
        out.weight_with_std("token_embd", Role::Embedding, &[self.vocab, self.embd], 1.0);
        out.norm("output_norm", self.embd);
        out.weight("output", Role::Output, &[self.vocab, self.embd], 2.0);
        for layer in 0..self.n_layers {
            out.enter_layer(layer);
            self.layer(out);
        }
        Ok(())
    }

    fn keys(&self, out: &mut Outline) -> Result<(), WriteError> {
        out.counts(&[
            ("context_length", 262_144),
            ("embedding_length", self.embd),
            ("block_count", self.n_layers),
            ("feed_forward_length", 3 * self.embd),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("expert_count", self.n_experts),
            ("expert_used_count", self.n_experts_used),
            ("expert_feed_forward_length", self.expert_ff),
            ("vocab_size", self.vocab),
        ])?;
        out.key("attention.layer_norm_rms_epsilon", 1e-6f32)?;
        out.key("rope.freq_base", 1e6f32)
    }

    fn layer(&self, out: &mut Outline) {
        let (embd, q_dim, kv_dim) = (
            self.embd,
            self.n_heads * self.head_dim,
            self.n_kv_heads * self.head_dim,
        );
        out.norm("attn_norm", embd);
        out.weight("attn_q", Role::Matrix, &[q_dim, embd], 1.0);
        out.weight("attn_k", Role::Matrix, &[kv_dim, embd], 1.0);
        out.weight("attn_v", Role::AttnValue, &[kv_dim, embd], 1.0);
        out.weight("attn_output", Role::AttnOutput, &[embd, q_dim], 1.0);
        out.vector("attn_q_norm.weight", self.head_dim, 1.0, 1.4);
        out.vector("attn_k_norm.weight", self.head_dim, 1.0, 1.4);
        out.norm("ffn_norm", embd);
        out.weight(
            "ffn_gate_inp",
            Role::Unquantized,
            &[self.n_experts, embd],
            2.0,
        );
        out.weight(
            "ffn_gate_exps",
            Role::Expert,
            &[self.n_experts, self.expert_ff, embd],
            1.0,
        );
        out.weight(
            "ffn_up_exps",
            Role::Expert,
            &[self.n_experts, self.expert_ff, embd],
            1.0,
        );
        out.weight(
            "ffn_down_exps",
            Role::ExpertDown,
            &[self.n_experts, embd, self.expert_ff],
            1.0,
        );
    }
}
