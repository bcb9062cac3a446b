//! A session: tokens in, logits out, over a KV cache of its own.

use std::sync::Arc;

use ggrs_core::DType;

use crate::arch::StepShape;
use crate::blocks::{KV_DTYPES, names};
use crate::buckets::{Steps, bucket};
use crate::error::{ModelError, SessionError};
use crate::model::Model;
use crate::tokenizer::TokenId;

/// Cells per block of the page table.
const BLOCK: usize = 64;

/// The sizes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Tokens that the context holds; `None` for what the model was trained with, at most 4096.
    pub n_ctx: Option<usize>,
    /// The most tokens in one step of a prefill.
    pub n_batch: usize,
    /// What keys and values are kept as: F32, F16, BF16, Q8_0 or Q4_0.
    pub kv_dtype: DType,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            n_ctx: None,
            n_batch: 512,
            kv_dtype: DType::F16,
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

/// One sequence of tokens over a model.
///
/// An error leaves the session as it was before the call.
pub struct Session {
    model: Arc<Model>,
    steps: Steps,
    tokens: Vec<TokenId>,
    n_ctx: usize,
    n_batch: usize,
    page_table: Vec<u8>,
}

impl Session {
    /// Opens a session: allocates its KV cache.
    ///
    /// # Errors
    /// A setting outside its range, a context that does not fit the device's memory.
    pub fn new(model: &Arc<Model>, options: &SessionOptions) -> Result<Self, SessionError> {
        let n_train = model.architecture().n_ctx_train();
        let n_ctx = options.n_ctx.unwrap_or(n_train.min(4096));
        let setting =
            |setting, got, rule: String| Err(SessionError::Setting { setting, got, rule });
        if n_ctx == 0 || n_ctx > i32::MAX as usize {
            return setting(
                "the context length (--ctx)",
                n_ctx,
                "from 1 to 2147483647".to_owned(),
            );
        }
        if options.n_batch == 0 || options.n_batch > 65_536 {
            return setting(
                "tokens per step (--batch)",
                options.n_batch,
                "from 1 to 65536".to_owned(),
            );
        }
        if !KV_DTYPES.contains(&options.kv_dtype) {
            return Err(SessionError::KvType {
                found: options.kv_dtype,
                possible: &KV_DTYPES,
            });
        }
        let n_batch = options.n_batch.min(n_ctx);
        let n_blocks = n_ctx.div_ceil(BLOCK);
        let shape = StepShape {
            max_tokens: n_batch.max(2),
            n_slots: 1,
            n_blocks,
            block: BLOCK,
            kv_dtype: options.kv_dtype,
        };
        let graph = model.graph(&shape).map_err(|e| match e {
            ModelError::Graph(source) => SessionError::Graph {
                n_tokens: n_batch,
                source,
            },
            // The file was read once already; nothing else can fail now.
            _ => SessionError::Lacks {
                what: "weights that it had when it was loaded",
                way_out: "load it again",
            },
        })?;

        let steps = Steps::new(model, graph, |bytes, source| SessionError::Context {
            n_ctx,
            kv: options.kv_dtype,
            bytes,
            source,
        })?;
        let table = 0..i32::try_from(n_blocks).unwrap_or(i32::MAX);
        Ok(Self {
            steps,
            model: Arc::clone(model),
            tokens: Vec::new(),
            n_ctx,
            n_batch,
            page_table: table.flat_map(i32::to_le_bytes).collect(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The tokens in the context.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Tokens that the context holds in all.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Forgets all tokens from position `n` on.
    pub fn truncate(&mut self, n: usize) {
        self.tokens.truncate(n);
    }

    /// Appends tokens and returns logits: one row of the vocabulary's size for the last token, or one for each.
    ///
    /// # Errors
    /// No tokens, more than fit, an id outside the vocabulary, a run that fails. The session stays as it was.
    pub fn feed(&mut self, tokens: &[TokenId], logits: Logits) -> Result<Vec<f32>, SessionError> {
        self.feed_with_progress(tokens, logits, &mut |_| {})
    }

    /// Like [`Session::feed`]; `progress` hears of tokens done after each step.
    ///
    /// # Errors
    /// Those of [`Session::feed`].
    pub fn feed_with_progress(
        &mut self,
        tokens: &[TokenId],
        logits: Logits,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        self.check(tokens, self.tokens.len())?;
        let n_vocab = self.model.architecture().n_vocab();
        let mut rows = Vec::new();
        let mut done = 0;
        for chunk in tokens.chunks(self.n_batch) {
            let is_last = done + chunk.len() == tokens.len();
            let out = self.step(chunk, self.tokens.len() + done, logits)?;
            done += chunk.len();
            match logits {
                Logits::All => {
                    rows.extend_from_slice(out.get(..chunk.len() * n_vocab).unwrap_or_default())
                }
                Logits::Last if is_last => rows = out,
                Logits::Last => {}
            }
            progress(done);
        }
        // Only now: cells beyond the tokens are never seen.
        self.tokens.extend_from_slice(tokens);
        Ok(rows)
    }

    /// Makes the context exactly `prompt`, reusing the longest common beginning, and returns the last token's logits.
    ///
    /// # Errors
    /// Those of [`Session::feed`]. If the run itself fails, the common beginning is what stays.
    pub fn prefill(
        &mut self,
        prompt: &[TokenId],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        if prompt.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        let common = self
            .tokens
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        // The last token must run again: its logits are not kept.
        let keep = common.min(prompt.len() - 1);
        let rest = prompt.get(keep..).unwrap_or_default();
        self.check(rest, keep)?;
        self.tokens.truncate(keep);
        self.feed_with_progress(rest, Logits::Last, progress)
    }

    /// May `tokens` follow the first `used` tokens of the context?
    fn check(&self, tokens: &[TokenId], used: usize) -> Result<(), SessionError> {
        if tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if tokens.len() > self.n_ctx - used {
            return Err(SessionError::ContextFull {
                n_tokens: tokens.len(),
                used,
                n_ctx: self.n_ctx,
            });
        }
        let n_vocab = self.model.architecture().n_vocab();
        match tokens.iter().position(|t| *t as usize >= n_vocab) {
            Some(position) => {
                let id = tokens.get(position).copied().unwrap_or_default();
                Err(SessionError::TokenRange {
                    id,
                    position,
                    n_vocab,
                })
            }
            None => Ok(()),
        }
    }

    /// One step: the tokens, padded to a bucket, from `position` on.
    fn step(
        &mut self,
        tokens: &[TokenId],
        position: usize,
        logits: Logits,
    ) -> Result<Vec<f32>, SessionError> {
        let n = tokens.len();
        let size = bucket(n, self.n_batch);
        let n_out = if logits == Logits::All { size } else { 1 };
        let runner = self.steps.get(size, n_out)?;
        let padded = |values: &mut dyn Iterator<Item = i64>, padding: i32| -> Vec<u8> {
            let given = values.map(|v| i32::try_from(v).unwrap_or(i32::MAX));
            given
                .chain(std::iter::repeat(padding))
                .take(size)
                .flat_map(i32::to_le_bytes)
                .collect()
        };
        let ids = padded(&mut tokens.iter().map(|t| i64::from(*t)), 0);
        let positions = padded(&mut (0..n).map(|i| (position + i) as i64), 0);
        let slots = padded(&mut (0..n).map(|_| 0), -1);
        let rows: Vec<u8> = match logits {
            Logits::All => padded(&mut (0..n).map(|i| i as i64), 0),
            Logits::Last => i32::try_from(n - 1).unwrap_or(0).to_le_bytes().to_vec(),
        };
        runner.set(names::TOKENS, &ids)?;
        runner.set(names::POSITIONS, &positions)?;
        runner.set(names::SLOTS, &slots)?;
        runner.set(names::PAGE_TABLE, &self.page_table)?;
        runner.set(names::OUT_ROWS, &rows)?;
        runner.run()?;
        let mut out = vec![0f32; n_out * self.model.architecture().n_vocab()];
        runner.get_into(names::LOGITS, bytemuck::cast_slice_mut(&mut out))?;
        Ok(out)
    }
}
