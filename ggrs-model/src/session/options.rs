//! The sizes of a session and what a feed returns.

use ggrs_core::DType;

use super::pages::BLOCK;
use crate::arch::StepShape;
use crate::blocks::KV_DTYPES;
use crate::error::SessionError;

/// The sizes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Sequences that can be open at once.
    pub n_slots: usize,
    /// Tokens that the context of each slot holds; `None` for what the model was trained with, at most 4096.
    pub n_ctx: Option<usize>,
    /// The most tokens in one step.
    pub n_batch: usize,
    /// What keys and values are kept as: F32, F16, BF16, Q8_0 or Q4_0.
    pub kv_dtype: DType,
    /// Bytes of host memory for prompts that no slot holds any more; 0 for none.
    pub prompt_cache_bytes: u64,
}

impl SessionOptions {
    /// Tokens of context for a model that was trained with `n_train`.
    pub fn n_ctx_for(&self, n_train: usize) -> usize {
        self.n_ctx.unwrap_or(n_train.min(4096))
    }

    /// The sizes that enter the graph, for slots of `n_ctx` tokens.
    pub(crate) fn step_shape(&self, n_ctx: usize) -> StepShape {
        StepShape {
            max_tokens: self.n_batch.min(self.n_slots.saturating_mul(n_ctx)).max(2),
            n_slots: self.n_slots,
            n_blocks: n_ctx.div_ceil(BLOCK),
            block: BLOCK,
            kv_dtype: self.kv_dtype,
            decode: None,
        }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            n_slots: 1,
            n_ctx: None,
            n_batch: 512,
            kv_dtype: DType::F16,
            prompt_cache_bytes: 0,
        }
    }
}

/// Whose logits a feed returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// The last token's.
    Last,
    /// Every token's.
    All,
}

/// Positions, cells and slots are I32 in the graph.
const MAX_CELLS: usize = i32::MAX as usize;

impl SessionOptions {
    /// Checks every setting. `n_ctx` is the context length that they come to.
    pub(super) fn check(&self, n_ctx: usize) -> Result<(), SessionError> {
        let setting = |setting, got, rule: &str| {
            let rule = rule.to_owned();
            Err(SessionError::Setting { setting, got, rule })
        };
        if n_ctx == 0 || n_ctx > MAX_CELLS {
            return setting("the context length (--ctx)", n_ctx, "from 1 to 2147483647");
        }
        if self.n_batch == 0 || self.n_batch > 65_536 {
            let name = "tokens per step (--batch)";
            return setting(name, self.n_batch, "from 1 to 65536");
        }
        if self.n_slots == 0 || self.n_slots > MAX_CELLS / n_ctx {
            let rule = format!(
                "from 1 to {}, so that all slots of {n_ctx} tokens have at most 2147483647 cells",
                MAX_CELLS / n_ctx
            );
            return setting("the number of slots", self.n_slots, &rule);
        }
        if !KV_DTYPES.contains(&self.kv_dtype) {
            return Err(SessionError::KvType {
                found: self.kv_dtype,
                possible: &KV_DTYPES,
            });
        }
        Ok(())
    }
}
