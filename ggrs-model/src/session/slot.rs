//! A slot: one sequence of a session, its tokens and what feeds them.

use std::fmt;

use super::open::Session;
use super::options::Logits;
use super::sequence::{Sequence, common_prefix};
use crate::error::SessionError;
use crate::tokenizer::TokenId;

/// A slot's number, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// A slot of a session, to work on.
///
/// An error leaves the slot as it was before the call, unless the call says otherwise.
pub struct Slot<'s> {
    pub(super) session: &'s mut Session,
    id: SlotId,
}

impl<'s> Slot<'s> {
    /// A slot that there is.
    pub(super) fn new(session: &'s mut Session, id: SlotId) -> Self {
        Self { session, id }
    }

    /// Its number.
    pub const fn id(&self) -> SlotId {
        self.id
    }

    /// The session.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// The tokens in its context.
    pub fn tokens(&self) -> &[TokenId] {
        self.session.tokens_of(self.id)
    }

    /// The number was checked when the slot was asked for.
    pub(super) fn sequence_mut(&mut self) -> &mut Sequence {
        &mut self.session.sequences[self.id.0]
    }

    /// Forgets all tokens from position `n` on.
    pub fn truncate(&mut self, n: usize) {
        self.sequence_mut().truncate(n);
        let left = self.tokens().len();
        self.session.pages.trim(self.id.0, left);
    }

    /// Appends tokens and returns logits: one row of the vocabulary's size for the last token, or one for each.
    ///
    /// # Errors
    /// No tokens, more than fit, an id outside the vocabulary, a run that fails.
    pub fn feed(&mut self, tokens: &[TokenId], logits: Logits) -> Result<Vec<f32>, SessionError> {
        self.feed_with_progress(tokens, logits, &mut |_| {})
    }

    /// Like [`Slot::feed`]; `progress` hears of tokens done after each step.
    ///
    /// # Errors
    /// Those of [`Slot::feed`].
    pub fn feed_with_progress(
        &mut self,
        tokens: &[TokenId],
        logits: Logits,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        self.session.advance(&[(self.id, tokens)], logits, progress)
    }

    /// Makes the context exactly `prompt`, reusing the longest common beginning, and returns the last token's logits.
    ///
    /// # Errors
    /// Those of [`Slot::feed`]. If the run itself fails, the common beginning is what stays.
    pub fn prefill(
        &mut self,
        prompt: &[TokenId],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        let common = common_prefix(self.tokens(), prompt);
        // The last token must run again: its logits are not kept.
        let keep = common.min(prompt.len().saturating_sub(1));
        let rest = prompt.get(keep..).unwrap_or_default();
        self.session.check_tokens(rest, keep)?;
        self.truncate(keep);
        self.feed_with_progress(rest, Logits::Last, progress)
    }
}
