//! Steps: tokens of any slots through the model, in parts of at most a batch.

use ggrs_core::device::KernelTime;

use super::open::Session;
use super::options::Logits;
use super::slot::SlotId;
use crate::blocks::names;
use crate::buckets::{StepSize, bucket};
use crate::error::SessionError;
use crate::tokenizer::TokenId;

/// One row of a step.
struct Row {
    token: TokenId,
    position: usize,
    slot: SlotId,
    has_logits: bool,
}

impl Session {
    /// Appends tokens to several slots at once and returns the logits of each slot's last token, in the order given.
    /// All of them share the steps, so that decoding many sequences reads the weights once for all.
    ///
    /// # Errors
    /// Nothing to do, a slot that is not there or given twice, more tokens than fit, an id outside the vocabulary, a
    /// run that fails. All slots stay as they were.
    pub fn step(&mut self, parts: &[(SlotId, &[TokenId])]) -> Result<Vec<Vec<f32>>, SessionError> {
        self.check_slots(parts.iter().map(|(slot, _)| *slot))?;
        let rows = self.advance(parts, Logits::Last, &mut |_| {})?;
        let n_vocab = self.model.architecture().n_vocab();
        Ok(rows.chunks(n_vocab).map(<[f32]>::to_vec).collect())
    }

    /// All slots must be there, each once.
    pub(super) fn check_slots(
        &self,
        slots: impl Iterator<Item = SlotId> + Clone,
    ) -> Result<(), SessionError> {
        for (i, slot) in slots.clone().enumerate() {
            self.check_slot(slot)?;
            if slots.clone().take(i).any(|other| other == slot) {
                return Err(SessionError::SlotTwice { slot });
            }
        }
        Ok(())
    }

    /// Appends tokens to different slots that there are. Returns rows of logits in the order of the tokens.
    pub(super) fn advance(
        &mut self,
        parts: &[(SlotId, &[TokenId])],
        logits: Logits,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        if parts.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        for (slot, tokens) in parts {
            self.check_tokens(tokens, self.tokens_of(*slot).len())?;
        }
        let done = self.run_parts(parts, logits, progress);
        for (slot, tokens) in parts {
            if let Some(sequence) = self.sequences.get_mut(slot.0) {
                // Only now: cells beyond the tokens are never seen.
                if done.is_ok() {
                    sequence.tokens.extend_from_slice(tokens);
                }
                self.pages.trim(slot.0, sequence.tokens.len());
            }
        }
        done
    }

    /// May `tokens` follow the first `used` tokens of a slot?
    pub(super) fn check_tokens(&self, tokens: &[TokenId], used: usize) -> Result<(), SessionError> {
        if tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if tokens.len() > self.n_ctx - used {
            return Err(self.full(tokens.len(), used));
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

    pub(super) const fn full(&self, n_tokens: usize, used: usize) -> SessionError {
        SessionError::ContextFull {
            n_tokens,
            used,
            n_ctx: self.n_ctx,
        }
    }

    /// Where the time of a step of `n_tokens` tokens with one row of logits goes, by device and kernel. The step runs on
    /// what was last set; forget what the session holds afterwards.
    ///
    /// # Errors
    /// The step cannot be compiled, a device that fails.
    pub fn profile(
        &mut self,
        n_tokens: usize,
    ) -> Result<Vec<(String, Vec<KernelTime>)>, SessionError> {
        let n_tokens = bucket(n_tokens, self.n_batch);
        let step = self.steps.get(StepSize::Feed { n_tokens, n_out: 1 })?;
        Ok(step.profile()?)
    }

    pub(super) fn run_parts(
        &mut self,
        parts: &[(SlotId, &[TokenId])],
        logits: Logits,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, SessionError> {
        let mut rows = Vec::new();
        for (slot, tokens) in parts {
            let used = self.tokens_of(*slot).len();
            self.make_room(*slot, used, tokens.len())?;
            rows.extend(tokens.iter().enumerate().map(|(i, token)| Row {
                token: *token,
                position: used + i,
                slot: *slot,
                has_logits: logits == Logits::All || i + 1 == tokens.len(),
            }));
        }
        let mut out = Vec::new();
        let mut n_done = 0;
        for batch in rows.chunks(self.n_batch) {
            self.run_step(batch, &mut out)?;
            n_done += batch.len();
            progress(n_done);
        }
        Ok(out)
    }

    /// Pages for `n_new` tokens behind the first `used` of a slot, shared with no other slot.
    pub(super) fn make_room(
        &mut self,
        slot: SlotId,
        used: usize,
        n_new: usize,
    ) -> Result<(), SessionError> {
        if let Some(copy) = self.pages.tail_copy(slot.0, used) {
            for state in &self.states {
                state.copy(&mut self.steps, copy)?;
            }
            self.pages.detach(slot.0, used);
        }
        if self.pages.grow(slot.0, used + n_new) {
            Ok(())
        } else {
            Err(self.full(n_new, used))
        }
    }

    /// One step: the rows, padded to a bucket. Appends the logits of those that have any.
    fn run_step(&mut self, rows: &[Row], out: &mut Vec<f32>) -> Result<(), SessionError> {
        let size = bucket(rows.len(), self.n_batch);
        let with_logits = || {
            (0i64..)
                .zip(rows)
                .filter(|(_, r)| r.has_logits)
                .map(|(i, _)| i)
        };
        let n_wanted = with_logits().count();
        // Without a row the step still makes one.
        let n_out = bucket(n_wanted.max(1), size);
        let column = |values: &mut dyn Iterator<Item = i64>, n: usize, padding: i32| -> Vec<u8> {
            let given = values.map(|v| i32::try_from(v).unwrap_or(i32::MAX));
            let padded = given.chain(std::iter::repeat(padding)).take(n);
            padded.flat_map(i32::to_le_bytes).collect()
        };
        let tokens = column(&mut rows.iter().map(|r| i64::from(r.token)), size, 0);
        let positions = column(&mut rows.iter().map(|r| r.position as i64), size, 0);
        let slots = column(&mut rows.iter().map(|r| r.slot.0 as i64), size, -1);
        let out_rows = column(&mut with_logits(), n_out, 0);

        let step = self.steps.get(StepSize::Feed {
            n_tokens: size,
            n_out,
        })?;
        step.set(names::TOKENS, &tokens)?;
        step.set(names::POSITIONS, &positions)?;
        step.set(names::SLOTS, &slots)?;
        step.set(names::PAGE_TABLE, self.pages.table())?;
        step.set(names::OUT_ROWS, &out_rows)?;
        step.run()?;
        if n_wanted > 0 {
            let n_vocab = self.model.architecture().n_vocab();
            let start = out.len();
            out.resize(start + n_out * n_vocab, 0.0);
            let made = out.get_mut(start..).unwrap_or_default();
            step.get_into(names::LOGITS, bytemuck::cast_slice_mut(made))?;
            out.truncate(start + n_wanted * n_vocab);
        }
        Ok(())
    }
}
