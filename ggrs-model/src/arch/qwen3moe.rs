//! Qwen3 mixture of experts (Qwen3-30B-A3B and its like): grouped attention with per-head norms, NEOX rope, softmax
//! routing. Sizes from GGUF metadata; tensors by their GGUF names.

use ggrs_core::ops::{Attention, GluKind, Rope, RopeMode, Yarn};
use ggrs_core::{Cut, Graph, Link, Real, Role, RoleKind};

use super::{StepShape, size};
use crate::blocks::{AttentionBlock, ExpertsBlock, KvLeaves, StepInputs, head_link};
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::weights::{WeightLeaves, first_path};

/// Sizes of a Qwen3-MoE model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Layers.
    pub n_layers: usize,
    /// Width of a token.
    pub n_embd: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a query and key head.
    pub head_width: usize,
    /// Width of a value head.
    pub value_width: usize,
    /// Norm epsilon.
    pub eps: f32,
    /// Base of the rope frequencies.
    pub rope_base: f32,
    /// Experts per layer.
    pub n_experts: usize,
    /// Experts per token.
    pub n_experts_used: usize,
    /// Hidden width of an expert.
    pub n_ff_expert: usize,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Context of training.
    pub n_ctx_train: usize,
}

/// No model is near this; a file that says more is damaged.
const MAX: usize = 1 << 24;

impl Config {
    pub(super) fn read(file: &GgufFile) -> Result<Self, ModelError> {
        let meta = file.metadata();
        let count = |key: &str| {
            size(
                file,
                &format!("qwen3moe.{key}"),
                1..=MAX,
                "from 1 to 16777216",
            )
        };
        let n_embd = count("embedding_length")?;
        let n_heads = count("attention.head_count")?;
        let head_width = meta
            .get("qwen3moe.attention.key_length")?
            .map_or(n_embd / n_heads, |n: u32| n as usize);
        let n_kv_heads = meta
            .get("qwen3moe.attention.head_count_kv")?
            .map_or(n_heads, |n: u32| n as usize);
        let n_experts = count("expert_count")?;
        // The vocabulary is as long as the embedding table.
        let embedding = file.tensor("token_embd.weight")?;
        let n_vocab = embedding.shape.first().copied().unwrap_or(0);
        let config = Self {
            n_layers: count("block_count")?,
            n_embd,
            n_heads,
            n_kv_heads,
            head_width,
            value_width: meta
                .get("qwen3moe.attention.value_length")?
                .map_or(head_width, |n: u32| n as usize),
            eps: meta.require("qwen3moe.attention.layer_norm_rms_epsilon")?,
            rope_base: meta.get("qwen3moe.rope.freq_base")?.unwrap_or(10_000.0),
            n_experts,
            n_experts_used: size(
                file,
                "qwen3moe.expert_used_count",
                1..=n_experts,
                "from 1 to the number of experts",
            )?,
            n_ff_expert: count("expert_feed_forward_length")?,
            n_vocab,
            n_ctx_train: count("context_length")?,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Sizes that would overflow or divide badly before the graph's own checks see them.
    fn check(&self, file: &GgufFile) -> Result<(), ModelError> {
        let bad = |key: &str, found: usize, rule| {
            Err(ModelError::Key {
                path: first_path(file),
                key: format!("qwen3moe.{key}"),
                found: found as u64,
                rule,
            })
        };
        for (key, width) in [
            ("attention.key_length", self.head_width),
            ("attention.value_length", self.value_width),
        ] {
            if !(2..=Attention::MAX_HEAD_WIDTH).contains(&width) || !width.is_multiple_of(2) {
                return bad(key, width, "even and from 2 to 512");
            }
        }
        if self.n_kv_heads == 0 || !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return bad(
                "attention.head_count_kv",
                self.n_kv_heads,
                "a divisor of attention.head_count",
            );
        }
        if self.n_vocab == 0 || self.n_vocab > MAX {
            return bad(
                "vocabulary (rows of token_embd.weight)",
                self.n_vocab,
                "from 1 to 16777216",
            );
        }
        Ok(())
    }

    pub(super) fn graph(&self, file: &GgufFile, shape: &StepShape) -> Result<Graph, ModelError> {
        let mut w = WeightLeaves::new(file);
        let inputs = StepInputs::declare(&mut w.graph, shape)?;
        // Without a head of its own the model reads the embedding table as one.
        let is_tied = !w.has("output.weight");
        let vocabulary = Link::new("vocabulary", Cut::Vocabulary, self.n_vocab, 0, 1);
        let mut role = Role::new(RoleKind::Embedding);
        if is_tied {
            role = role.with(vocabulary.clone());
        }
        let table = [self.n_vocab, self.n_embd];
        let embedding = w.tensor("token_embd.weight", &table, role)?;
        let mut x = w.graph.get_rows(embedding, inputs.tokens)?;

        for layer in 0..self.n_layers {
            w.graph.scope(&format!("blk.{layer}.attn"));
            let attention = self.attention(&mut w, layer)?;
            let kv = KvLeaves::declare(&mut w.graph, layer, shape, &attention)?;
            let norm_role = Role::in_layer(RoleKind::Norm, layer);
            let name = format!("blk.{layer}.attn_norm.weight");
            let norm = w.vector(&name, self.n_embd, norm_role.clone())?;
            let normed = w.graph.rms_norm(x, Some(norm), self.eps)?;
            let mixed = attention.build(&mut w.graph, normed, &inputs, kv, shape.block)?;
            let mut residual = x;
            let mut mixed = mixed;
            if layer + 1 == self.n_layers {
                // From here on, only the rows whose logits are wanted.
                residual = inputs.wanted(&mut w.graph, residual)?;
                mixed = inputs.wanted(&mut w.graph, mixed)?;
            }
            x = w.graph.add(mixed, residual)?;

            w.graph.scope(&format!("blk.{layer}.ffn"));
            let name = format!("blk.{layer}.ffn_norm.weight");
            let norm = w.vector(&name, self.n_embd, norm_role)?;
            let normed = w.graph.rms_norm(x, Some(norm), self.eps)?;
            let experts = self.experts(&mut w, layer)?;
            let answer = experts.build(&mut w.graph, normed)?;
            x = w.graph.add(answer, x)?;
        }

        w.graph.scope("");
        let norm = w.vector("output_norm.weight", self.n_embd, Role::new(RoleKind::Norm))?;
        let x = w.graph.rms_norm(x, Some(norm), self.eps)?;
        let head = if is_tied {
            embedding
        } else {
            w.tensor(
                "output.weight",
                &table,
                Role::new(RoleKind::Output).with(vocabulary),
            )?
        };
        let logits = w.graph.matmul(head, x)?;
        Ok(inputs.finish(w.graph, logits)?)
    }

    fn attention(
        &self,
        w: &mut WeightLeaves<'_>,
        layer: usize,
    ) -> Result<AttentionBlock, ModelError> {
        let (e, h, hk, d, dv) = (
            self.n_embd,
            self.n_heads,
            self.n_kv_heads,
            self.head_width,
            self.value_width,
        );
        let name = |part: &str| format!("blk.{layer}.attn_{part}.weight");
        // Query heads are cut together with the key heads they read.
        let role = |axis, unit, shared_by| {
            let heads = head_link(layer, h, axis, unit).shared_by(shared_by);
            Role::in_layer(RoleKind::Attention, layer).with(heads)
        };
        let norm = Role::in_layer(RoleKind::Norm, layer);
        Ok(AttentionBlock {
            wq: w.tensor(&name("q"), &[h * d, e], role(0, d, 1))?,
            wk: w.tensor(&name("k"), &[hk * d, e], role(0, d, h / hk))?,
            wv: w.tensor(&name("v"), &[hk * dv, e], role(0, dv, h / hk))?,
            wo: w.tensor(&name("output"), &[e, h * dv], role(1, dv, 1))?,
            q_norm: w.vector(&name("q_norm"), d, norm.clone())?,
            k_norm: w.vector(&name("k_norm"), d, norm)?,
            n_heads: h,
            n_kv_heads: hk,
            head_width: d,
            value_width: dv,
            eps: self.eps,
            rope: Rope {
                mode: RopeMode::Neox,
                n_rot: d,
                base: Real(self.rope_base),
                yarn: Yarn::default(),
                factors: false,
            },
            #[allow(clippy::cast_precision_loss, reason = "head widths are at most 512")]
            scale: 1.0 / (d as f32).sqrt(),
            window: None,
        })
    }

    fn experts(&self, w: &mut WeightLeaves<'_>, layer: usize) -> Result<ExpertsBlock, ModelError> {
        let (e, x, f) = (self.n_embd, self.n_experts, self.n_ff_expert);
        let name = |part: &str| format!("blk.{layer}.ffn_{part}.weight");
        // Every expert is cut along its hidden units, or whole experts go to members.
        let role = |width_axis| {
            let width = format!("blk.{layer}.experts.width");
            let whole = format!("blk.{layer}.experts");
            Role::in_layer(RoleKind::Experts, layer)
                .with(Link::new(&width, Cut::Width, f, width_axis, 1))
                .with(Link::new(&whole, Cut::Experts, x, 0, 1))
        };
        let router = Role::in_layer(RoleKind::Router, layer);
        Ok(ExpertsBlock {
            router: w.tensor(&name("gate_inp"), &[x, e], router)?,
            gate: w.tensor(&name("gate_exps"), &[x, f, e], role(1))?,
            up: w.tensor(&name("up_exps"), &[x, f, e], role(1))?,
            down: w.tensor(&name("down_exps"), &[x, e, f], role(2))?,
            n_used: self.n_experts_used,
            normalise: true,
            activation: GluKind::Swiglu,
        })
    }
}
