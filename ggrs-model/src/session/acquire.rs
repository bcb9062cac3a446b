//! Slots for prompts: which slot a prompt gets, what of it is there already, and what is kept of what it displaces.

use std::cmp::Reverse;

use super::open::Session;
use super::prompt_cache::{Entry, PromptCache, entry_bytes};
use super::rows::rows_bytes;
use super::sequence::{Sequence, common_prefix};
use super::slot::SlotId;
use crate::error::SessionError;
use crate::tokenizer::TokenId;

/// Where most of a prompt can be had from.
enum Source {
    /// Cells of a slot that is busy with it.
    Busy(SlotId),
    /// This entry of the prompt cache.
    Cached(usize),
}

impl Session {
    /// Finds an idle slot for a prompt and marks it busy until [`Session::release`].
    ///
    /// It is the one with the longest common beginning. If a busy slot or the prompt cache shares more, an empty slot,
    /// or else the one acquired longest ago, gets that beginning: from a slot by sharing its cells, from the cache by
    /// a copy. What the slot held and the prompt does not continue goes to the prompt cache, if it fits.
    ///
    /// # Errors
    /// No tokens, more than a slot holds, an id outside the vocabulary, no idle slot. If a copy fails, the slot that
    /// was to be displaced may be empty.
    pub fn acquire(&mut self, prompt: &[TokenId]) -> Result<SlotId, SessionError> {
        self.check_tokens(prompt, 0)?;
        let shared_by = |slot: SlotId| common_prefix(self.tokens_of(slot), prompt);
        let slots = || (0..).zip(&self.sequences).map(|(i, s)| (SlotId(i), s));
        let idle = || slots().filter(|(_, s)| !s.is_busy);

        // An empty slot is older than any; of equals the first is taken.
        let age =
            |slot: SlotId, s: &Sequence| (s.tokens.is_empty(), Reverse((s.acquired_at, slot)));
        let best = idle().max_by_key(|(slot, s)| (shared_by(*slot), age(*slot, s)));
        let oldest = idle().max_by_key(|(slot, s)| age(*slot, s));
        let (Some((best, _)), Some((oldest, _))) = (best, oldest) else {
            let n_slots = self.n_slots();
            return Err(SessionError::NoIdleSlot { n_slots });
        };
        let busy = slots().filter(|(_, s)| s.is_busy);
        let busy = busy.map(|(slot, _)| (shared_by(slot), Source::Busy(slot)));
        let cached = self.prompt_cache.longest(prompt);
        let cached = cached.map(|(i, n)| (n, Source::Cached(i)));
        // Of equals the last is taken: sharing costs no copy.
        let other = cached.into_iter().chain(busy).max_by_key(|(n, _)| *n);

        let own = shared_by(best);
        let slot = match other.filter(|(n, _)| *n > own) {
            None => {
                self.keep_what_is_lost(best, own)?;
                best
            }
            Some((n, Source::Busy(from))) => {
                self.keep_what_is_lost(oldest, 0)?;
                self.share(from, oldest, n);
                oldest
            }
            Some((n, Source::Cached(i))) => {
                self.restore(oldest, i, n)?;
                oldest
            }
        };
        self.n_acquired += 1;
        if let Some(sequence) = self.sequences.get_mut(slot.0) {
            sequence.is_busy = true;
            sequence.acquired_at = self.n_acquired;
        }
        Ok(slot)
    }

    /// Marks a slot idle. Its tokens stay until another prompt needs the slot.
    ///
    /// # Errors
    /// No such slot.
    pub fn release(&mut self, slot: SlotId) -> Result<(), SessionError> {
        self.slot(slot)?.sequence_mut().is_busy = false;
        Ok(())
    }

    /// The prompts in host memory.
    pub const fn prompt_cache(&self) -> &PromptCache {
        &self.prompt_cache
    }

    /// Copies a slot's tokens with their rows to the prompt cache; the slot keeps them as well.
    ///
    /// # Errors
    /// No such slot, nothing in it, more bytes than the cache's budget, a device that fails.
    pub fn save_to_prompt_cache(&mut self, slot: SlotId) -> Result<(), SessionError> {
        let tokens = self.slot(slot)?.tokens().to_vec();
        if tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if self.prompt_cache.covers(&tokens) {
            return Ok(());
        }
        let bytes = entry_bytes(tokens.len(), rows_bytes(&self.states, tokens.len()));
        let budget_bytes = self.prompt_cache.budget_bytes();
        if bytes > budget_bytes {
            return Err(SessionError::PromptCacheBudget {
                n_tokens: tokens.len(),
                bytes,
                budget_bytes,
            });
        }
        let cells = self.pages.cells(slot.0, tokens.len());
        let mut states = Vec::with_capacity(self.states.len());
        for state in &self.states {
            let mut rows = Vec::with_capacity(state.row_bytes * tokens.len());
            state.read(&mut self.steps, &cells, &mut |bytes| {
                rows.extend_from_slice(bytes);
                Ok(())
            })?;
            states.push(rows);
        }
        self.prompt_cache.insert(Entry { tokens, states });
        Ok(())
    }

    /// Copies a slot's tokens to the prompt cache if only `n_kept` of them stay. One that is too large is not kept.
    fn keep_what_is_lost(&mut self, slot: SlotId, n_kept: usize) -> Result<(), SessionError> {
        if self.tokens_of(slot).len() <= n_kept || self.prompt_cache.budget_bytes() == 0 {
            return Ok(());
        }
        match self.save_to_prompt_cache(slot) {
            Err(refusal @ SessionError::PromptCacheBudget { .. }) => {
                tracing::warn!(%slot, "{refusal}");
                Ok(())
            }
            other => other,
        }
    }

    /// Makes an idle slot hold the first `n` tokens of another, in the same cells.
    fn share(&mut self, from: SlotId, to: SlotId, n: usize) {
        let tokens = self.tokens_of(from).get(..n).unwrap_or_default().to_vec();
        self.pages.trim(to.0, 0);
        self.pages.share(from.0, to.0, tokens.len());
        if let Some(sequence) = self.sequences.get_mut(to.0) {
            sequence.truncate(0);
            sequence.tokens = tokens;
        }
    }

    /// Makes an idle slot hold the first `n` tokens of an entry of the prompt cache. An entry of which no token is
    /// left out moves: the slot has it now.
    fn restore(&mut self, slot: SlotId, entry: usize, n: usize) -> Result<(), SessionError> {
        let Some(entry) = self.prompt_cache.remove(entry) else {
            return Ok(());
        };
        let kept = self.keep_what_is_lost(slot, 0);
        let done = kept.and_then(|()| self.upload(slot, &entry, n));
        if done.is_err() || n < entry.tokens.len() {
            self.prompt_cache.insert(entry);
        }
        done
    }

    /// Replaces what a slot holds by the first `n` tokens of an entry. If that fails, the slot is empty.
    fn upload(&mut self, slot: SlotId, entry: &Entry, n: usize) -> Result<(), SessionError> {
        self.slot(slot)?.truncate(0);
        self.make_room(slot, 0, n)?;
        let cells = self.pages.cells(slot.0, n);
        for (state, rows) in self.states.iter().zip(&entry.states) {
            let mut rows = rows.as_slice();
            let written = state.write(&mut self.steps, &cells, &mut |bytes| {
                // The entry has at least the rows asked for.
                let (now, later) = rows.split_at(bytes.len().min(rows.len()));
                bytes.copy_from_slice(now);
                rows = later;
                Ok(())
            });
            if let Err(error) = written {
                self.pages.trim(slot.0, 0);
                return Err(error);
            }
        }
        if let Some(sequence) = self.sequences.get_mut(slot.0) {
            sequence.tokens.extend(entry.tokens.iter().take(n));
        }
        Ok(())
    }
}
