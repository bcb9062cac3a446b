//! A session: slots over one KV cache of a model, and the calls for who needs a single sequence.

use std::sync::Arc;

use super::options::{Logits, SessionOptions};
use super::pages::Pages;
use super::prompt_cache::PromptCache;
use super::rows::StateRows;
use super::sequence::Sequence;
use super::slot::{Slot, SlotId};
use crate::buckets::Steps;
use crate::error::SessionError;
use crate::model::Model;
use crate::tokenizer::TokenId;

/// Sequences of tokens over a model, each in a slot of one KV cache.
///
/// Who needs one sequence uses [`Session::feed`], [`Session::prefill`] and [`Session::generate`]: they work on the
/// first slot. With more, [`Session::acquire`] finds the slot that already holds the most of a prompt,
/// [`Session::slot`] works on it, and [`Session::step`] lets several slots go on in one step.
///
/// An error leaves the session as it was before the call, unless the call says otherwise.
pub struct Session {
    pub(super) model: Arc<Model>,
    pub(super) steps: Steps,
    /// One for each slot; at least one.
    pub(super) sequences: Vec<Sequence>,
    pub(super) pages: Pages,
    /// The rows of every state, in the graph's order.
    pub(super) states: Vec<StateRows>,
    pub(super) prompt_cache: PromptCache,
    pub(super) n_ctx: usize,
    pub(super) n_batch: usize,
    /// Acquisitions so far.
    pub(super) n_acquired: u64,
}

impl Session {
    /// Opens a session: allocates its KV cache.
    ///
    /// # Errors
    /// A setting outside its range, a context that does not fit the device's memory.
    pub fn new(model: &Arc<Model>, options: &SessionOptions) -> Result<Self, SessionError> {
        let n_train = model.architecture().n_ctx_train();
        let n_ctx = options.n_ctx_for(n_train);
        options.check(n_ctx)?;
        let n_slots = options.n_slots;
        let n_batch = options.n_batch.min(n_slots * n_ctx);
        let pages = Pages::new(n_slots, n_ctx);
        let shape = options.step_shape(n_ctx);
        let steps = Steps::new(model, shape, |bytes, source| SessionError::Context {
            n_ctx: n_slots * n_ctx,
            kv: options.kv_dtype,
            bytes,
            source,
        })?;
        let n_cells = shape.n_cells();
        let states = steps.states().iter().map(|s| StateRows::of(s, n_cells));
        Ok(Self {
            states: states.collect::<Result<_, _>>()?,
            steps,
            model: Arc::clone(model),
            sequences: (0..n_slots).map(|_| Sequence::default()).collect(),
            pages,
            prompt_cache: PromptCache::new(options.prompt_cache_bytes),
            n_ctx,
            n_batch,
            n_acquired: 0,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens that the context of each slot holds in all.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Sequences that can be open at once.
    pub fn n_slots(&self) -> usize {
        self.sequences.len()
    }

    /// A slot.
    ///
    /// # Errors
    /// There are fewer slots.
    pub fn slot(&mut self, id: SlotId) -> Result<Slot<'_>, SessionError> {
        self.check_slot(id)?;
        Ok(Slot::new(self, id))
    }

    /// Is there such a slot?
    pub(super) fn check_slot(&self, slot: SlotId) -> Result<(), SessionError> {
        let n_slots = self.n_slots();
        if slot.0 < n_slots {
            Ok(())
        } else {
            Err(SessionError::NoSuchSlot { slot, n_slots })
        }
    }

    /// The slot that is always there.
    pub(crate) fn first(&mut self) -> Slot<'_> {
        Slot::new(self, SlotId(0))
    }

    /// The tokens of a slot.
    pub(super) fn tokens_of(&self, slot: SlotId) -> &[TokenId] {
        self.sequences.get(slot.0).map_or(&[], |s| &s.tokens)
    }

    /// The tokens in the first slot.
    pub fn tokens(&self) -> &[TokenId] {
        self.tokens_of(SlotId(0))
    }

    /// [`Slot::truncate`] of the first slot.
    pub fn truncate(&mut self, n: usize) {
        self.first().truncate(n);
    }

    /// [`Slot::feed`] of the first slot.
    ///
    /// # Errors
    /// Those of [`Slot::feed`].
    pub fn feed(&mut self, tokens: &[TokenId], logits: Logits) -> Result<Vec<f32>, SessionError> {
        self.first().feed(tokens, logits)
    }

    /// [`Slot::feed_with_progress`] of the first slot.
    ///
    /// # Errors
    /// Those of [`Slot::feed`].
    pub fn feed_with_progress(
        &mut self,
        tokens: &[TokenId],
        logits: Logits,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        self.first().feed_with_progress(tokens, logits, progress)
    }

    /// [`Slot::prefill`] of the first slot.
    ///
    /// # Errors
    /// Those of [`Slot::prefill`].
    pub fn prefill(
        &mut self,
        prompt: &[TokenId],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        self.first().prefill(prompt, progress)
    }
}
