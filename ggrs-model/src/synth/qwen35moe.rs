//! Keys and tensors of `qwen35moe` (Qwen3.5/3.6-35B-A3B): three gated DeltaNet layers to one of gated attention, routed
//! and shared experts in each, and one layer that drafts the next token (MTP) at the end.
//!
//! Names and shapes only; the computation is in the model's own file.

use crate::gguf::writer::WriteError;

use super::mix::Role;
use super::outline::{Fill, Outline};

/// Every layer with this number, counted from 1, is full attention.
const FULL_ATTENTION_INTERVAL: usize = 4;
/// Width of the causal convolution before the recurrent state.
const CONV_KERNEL: usize = 4;
/// Drafting layers after the last one.
const N_DRAFT_LAYERS: usize = 1;

/// The numbers that make a model of this architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) embd: usize,
    /// Without the drafting layer.
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    /// Dimensions of a head that rope turns.
    pub(super) rope_dims: usize,
    /// Pairs of dimensions per position axis.
    pub(super) rope_sections: [i32; 4],
    pub(super) n_experts: usize,
    pub(super) n_experts_used: usize,
    pub(super) expert_ff: usize,
    pub(super) shared_ff: usize,
    /// Heads of keys, and of values, in DeltaNet layers.
    pub(super) n_state_k_heads: usize,
    pub(super) n_state_v_heads: usize,
    pub(super) state_dim: usize,
    pub(super) vocab: usize,
}

impl Shape {
    fn is_draft(&self, layer: usize) -> bool {
        layer >= self.n_layers
    }

    fn is_recurrent(&self, layer: usize) -> bool {
        !self.is_draft(layer) && !(layer + 1).is_multiple_of(FULL_ATTENTION_INTERVAL)
    }

    pub(super) fn outline(&self, out: &mut Outline) -> Result<(), WriteError> {
        let n_blocks = self.n_layers + N_DRAFT_LAYERS;
        self.keys(n_blocks, out)?;
        out.weight_with_std("token_embd", Role::Embedding, &[self.vocab, self.embd], 1.0);
        out.norm("output_norm", self.embd);
        out.weight("output", Role::Output, &[self.vocab, self.embd], 2.0);
        for layer in 0..n_blocks {
            out.enter_layer(layer);
            out.norm("attn_norm", self.embd);
            out.norm("post_attention_norm", self.embd);
            if self.is_recurrent(layer) {
                self.delta_net(out);
            } else {
                self.attention(out);
            }
            self.experts(out);
            if self.is_draft(layer) {
                self.draft(out);
            }
        }
        Ok(())
    }

    fn keys(&self, n_blocks: usize, out: &mut Outline) -> Result<(), WriteError> {
        out.counts(&[
            ("context_length", 262_144),
            ("embedding_length", self.embd),
            ("block_count", n_blocks),
            ("nextn_predict_layers", N_DRAFT_LAYERS),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.rope_dims),
            ("expert_count", self.n_experts),
            ("expert_used_count", self.n_experts_used),
            ("expert_feed_forward_length", self.expert_ff),
            ("expert_shared_feed_forward_length", self.shared_ff),
            ("ssm.conv_kernel", CONV_KERNEL),
            ("ssm.state_size", self.state_dim),
            ("ssm.group_count", self.n_state_k_heads),
            ("ssm.time_step_rank", self.n_state_v_heads),
            ("ssm.inner_size", self.n_state_v_heads * self.state_dim),
            ("full_attention_interval", FULL_ATTENTION_INTERVAL),
            ("vocab_size", self.vocab),
        ])?;
        out.key("attention.layer_norm_rms_epsilon", 1e-6f32)?;
        out.key("rope.freq_base", 1e7f32)?;
        out.key("rope.dimension_sections", self.rope_sections)?;
        let is_recurrent: Vec<bool> = (0..n_blocks)
            .map(|layer| self.is_recurrent(layer))
            .collect();
        out.key("attention.recurrent_layers", is_recurrent)
    }

    fn attention(&self, out: &mut Outline) {
        let (embd, q_dim, kv_dim) = (
            self.embd,
            self.n_heads * self.head_dim,
            self.n_kv_heads * self.head_dim,
        );
        out.weight("attn_q", Role::Matrix, &[2 * q_dim, embd], 1.0); // query and output gate
        out.weight("attn_k", Role::Matrix, &[kv_dim, embd], 1.0);
        out.weight("attn_v", Role::AttnValue, &[kv_dim, embd], 1.0);
        out.weight("attn_output", Role::AttnOutput, &[embd, q_dim], 1.0);
        out.vector("attn_q_norm.weight", self.head_dim, 1.0, 1.4);
        out.vector("attn_k_norm.weight", self.head_dim, 1.0, 1.4);
    }

    fn delta_net(&self, out: &mut Outline) {
        let embd = self.embd;
        let (k_dim, v_dim) = (
            self.n_state_k_heads * self.state_dim,
            self.n_state_v_heads * self.state_dim,
        );
        let qkv_dim = 2 * k_dim + v_dim;
        out.weight("attn_qkv", Role::AttnFused, &[qkv_dim, embd], 1.0);
        out.weight("attn_gate", Role::Matrix, &[v_dim, embd], 1.0);
        out.unquantized(
            "ssm_conv1d.weight",
            &[qkv_dim, CONV_KERNEL],
            Fill::Normal { std: 0.5 },
        );
        out.vector("ssm_dt.bias", self.n_state_v_heads, -4.0, 1.0);
        out.vector("ssm_a", self.n_state_v_heads, -1.0, -0.05);
        out.weight(
            "ssm_beta",
            Role::StateControl,
            &[self.n_state_v_heads, embd],
            1.0,
        );
        out.weight(
            "ssm_alpha",
            Role::StateControl,
            &[self.n_state_v_heads, embd],
            0.5,
        );
        out.norm("ssm_norm", self.state_dim);
        out.weight("ssm_out", Role::Matrix, &[embd, v_dim], 1.0);
    }

    fn experts(&self, out: &mut Outline) {
        let embd = self.embd;
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
        out.weight("ffn_gate_inp_shexp", Role::Unquantized, &[embd], 1.0);
        out.weight("ffn_gate_shexp", Role::Matrix, &[self.shared_ff, embd], 1.0);
        out.weight("ffn_up_shexp", Role::Matrix, &[self.shared_ff, embd], 1.0);
        out.weight(
            "ffn_down_shexp",
            Role::FfnDown,
            &[embd, self.shared_ff],
            1.0,
        );
    }

    fn draft(&self, out: &mut Outline) {
        out.weight(
            "nextn.eh_proj",
            Role::Matrix,
            &[self.embd, 2 * self.embd],
            1.0,
        );
        for name in ["nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm"] {
            out.norm(name, self.embd);
        }
    }
}
