//! Self-attention over a paged KV cache: projections, per-head norms, rope, cache write, attention, output.

use ggrs_core::ops::{Attention, Rope, Visibility};
use ggrs_core::{
    Cut, DType, Dim, GraphBuilder, GraphError, Link, Real, Role, RoleKind, Shape, Value,
};

use crate::arch::StepShape;
use crate::blocks::StepInputs;

/// Weights and sizes of one attention layer.
pub(crate) struct AttentionBlock {
    /// `[H * D, n_embd]`.
    pub(crate) wq: Value,
    /// `[Hk * D, n_embd]`.
    pub(crate) wk: Value,
    /// `[Hk * Dv, n_embd]`.
    pub(crate) wv: Value,
    /// `[n_embd, H * Dv]`.
    pub(crate) wo: Value,
    /// Per-head norms of queries and keys, F32 `[D]`.
    pub(crate) q_norm: Value,
    /// See `q_norm`.
    pub(crate) k_norm: Value,
    /// Query heads.
    pub(crate) n_heads: usize,
    /// Key and value heads.
    pub(crate) n_kv_heads: usize,
    /// Width of a query and key head.
    pub(crate) head_width: usize,
    /// Width of a value head.
    pub(crate) value_width: usize,
    /// Norm epsilon.
    pub(crate) eps: f32,
    /// Rotation.
    pub(crate) rope: Rope,
    /// Factor on the scores.
    pub(crate) scale: f32,
    /// Sliding window in tokens, if any.
    pub(crate) window: Option<usize>,
}

/// The KV cache of one layer: states `[cells, Hk, D]` and `[cells, Hk, Dv]`.
#[derive(Clone, Copy)]
pub(crate) struct KvLeaves {
    k: Value,
    v: Value,
}

impl KvLeaves {
    pub(crate) fn declare(
        graph: &mut GraphBuilder,
        layer: usize,
        shape: &StepShape,
        attention: &AttentionBlock,
    ) -> Result<Self, GraphError> {
        let (h, hk) = (attention.n_heads, attention.n_kv_heads);
        let mut state = |part: &str, width: usize| {
            let name = format!("kv.{layer}.{part}");
            let state = graph.state(&name, shape.kv_dtype, [shape.n_cells(), hk, width])?;
            let heads = head_link(layer, h, 1, 1).shared_by(h / hk.max(1));
            graph.describe(state, Role::in_layer(RoleKind::Kv, layer).with(heads))?;
            Ok(state)
        };
        Ok(Self {
            k: state("k", attention.head_width)?,
            v: state("v", attention.value_width)?,
        })
    }
}

/// The query heads of a layer, as they lie along an axis.
pub(crate) fn head_link(layer: usize, n_heads: usize, axis: usize, unit: usize) -> Link {
    Link::new(
        &format!("blk.{layer}.heads"),
        Cut::Heads,
        n_heads,
        axis,
        unit,
    )
}

impl AttentionBlock {
    /// The mixed tokens `[T, n_embd]` of normed tokens `x` `[T, n_embd]`.
    pub(crate) fn build(
        &self,
        g: &mut GraphBuilder,
        x: Value,
        inputs: &StepInputs,
        kv: KvLeaves,
        block: usize,
    ) -> Result<Value, GraphError> {
        let tokens = g
            .desc(x)
            .and_then(|d| d.shape.dim(0))
            .unwrap_or(Dim::Fixed(0));
        let heads = |n: usize, width: usize| Shape::new([tokens, Dim::Fixed(n), Dim::Fixed(width)]);

        let q = g.matmul(self.wq, x)?;
        let q = g.reshape(q, heads(self.n_heads, self.head_width))?;
        let k = g.matmul(self.wk, x)?;
        let k = g.reshape(k, heads(self.n_kv_heads, self.head_width))?;
        let v = g.matmul(self.wv, x)?;
        let v = g.reshape(v, heads(self.n_kv_heads, self.value_width))?;

        let q = g.rms_norm(q, Some(self.q_norm), self.eps)?;
        let k = g.rms_norm(k, Some(self.k_norm), self.eps)?;
        let q = g.rope(self.rope.clone(), q, inputs.pages.positions, None)?;
        let k = g.rope(self.rope.clone(), k, inputs.pages.positions, None)?;

        let keys = g.cache_write(kv.k, k, inputs.pages, block)?;
        let values = g.cache_write(kv.v, v, inputs.pages, block)?;
        let attention = Attention {
            scale: Real(self.scale),
            softcap: None,
            visibility: Visibility::Paged {
                block,
                window: self.window,
            },
            sinks: false,
        };
        let pages = [
            inputs.pages.positions,
            inputs.pages.slots,
            inputs.pages.table,
        ];
        let mixed = g.attention(attention, q, keys, values, &pages)?;
        let flat = Shape::new([tokens, Dim::Fixed(self.n_heads * self.value_width)]);
        let mixed = g.reshape(mixed, flat)?;
        g.matmul(self.wo, mixed)
    }
}

/// What a KV cache may be kept as.
pub(crate) const KV_DTYPES: [DType; 5] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
];
