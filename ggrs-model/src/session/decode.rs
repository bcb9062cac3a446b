//! Decoding: one token more for several slots, the next ones chosen where the logits are. A step writes what has changed
//! since the last one, which is nothing as a rule, and reads four bytes for each slot.

use super::cursor::Cursor;
use super::open::Session;
use super::options::Logits;
use super::slot::{Slot, SlotId};
use crate::blocks::names;
use crate::buckets::{StepSize, bucket};
use crate::error::SessionError;
use crate::sampling::Sampler;
use crate::tokenizer::TokenId;

/// A slot, the token that it goes on by, and who chooses the next one.
type Part<'a> = (SlotId, TokenId, &'a mut Sampler);

impl Session {
    /// Appends one token to several slots at once and returns the token that comes next in each, in the order given,
    /// chosen and accepted as the slot's sampler would have: on the device, so that logits stay there. It is quickest if
    /// the same slots go on by the tokens that were returned.
    ///
    /// Samplers that look back over more than 256 tokens choose on the host.
    ///
    /// # Errors
    /// Nothing to do, a slot that is not there or given twice, a context that is full, an id outside the vocabulary, a
    /// run that fails, logits from which no token can be chosen. All slots and samplers stay as they were.
    pub fn decode(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<TokenId>, SessionError> {
        if parts.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        self.check_slots(parts.iter().map(|(slot, ..)| *slot))?;
        let n_vocab = self.model.architecture().n_vocab();
        for (slot, token, sampler) in parts.iter() {
            self.check_tokens(&[*token], self.tokens_of(*slot).len())?;
            sampler.check_accepted(n_vocab)?;
        }
        let on_device = parts.iter().all(|(.., sampler)| Cursor::suits(sampler));
        let done = if on_device {
            self.choose_there(parts)
        } else {
            self.choose_here(parts)
        };
        for (i, (slot, token, sampler)) in parts.iter_mut().enumerate() {
            if let Some(sequence) = self.sequences.get_mut(slot.0) {
                if let Some(next) = done.as_ref().ok().and_then(|next| next.get(i)) {
                    sequence.tokens.push(*token);
                    sampler.accept_drawn(*next);
                }
                self.pages.trim(slot.0, sequence.tokens.len());
            }
        }
        done
    }

    /// From logits on the host.
    fn choose_here(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<TokenId>, SessionError> {
        let tokens: Vec<[TokenId; 1]> = parts.iter().map(|(_, token, _)| [*token]).collect();
        let rows = parts.iter().zip(&tokens);
        let rows: Vec<(SlotId, &[TokenId])> = rows.map(|((slot, ..), t)| (*slot, &t[..])).collect();
        let logits = self.run_parts(&rows, Logits::Last, &mut |_| {})?;
        let logits = logits.chunks(self.model.architecture().n_vocab());
        let next = parts.iter_mut().zip(logits);
        let next = next.map(|((.., sampler), logits)| sampler.choose(logits));
        Ok(next.collect::<Result<_, _>>()?)
    }

    /// On the device.
    fn choose_there(&mut self, parts: &[Part<'_>]) -> Result<Vec<TokenId>, SessionError> {
        for (slot, ..) in parts {
            self.make_room(*slot, self.tokens_of(*slot).len(), 1)?;
        }
        let mut next = Vec::with_capacity(parts.len());
        for parts in parts.chunks(self.n_batch) {
            self.decode_step(parts, &mut next)?;
        }
        Ok(next)
    }

    /// One step: the parts, padded to a bucket.
    fn decode_step(
        &mut self,
        parts: &[Part<'_>],
        next: &mut Vec<TokenId>,
    ) -> Result<(), SessionError> {
        let n = bucket(parts.len(), self.n_slots().min(self.n_batch));
        let step = self.steps.get(StepSize::Decode { n_sequences: n })?;
        let mut cursor = Cursor::holding(step.held(names::CURSOR), n);
        let mut settings = vec![[0.0; 8]; n];
        let mut seeds = vec![0; n];
        let columns = parts.iter().zip(settings.iter_mut().zip(&mut seeds));
        for (i, ((slot, token, sampler), (settings, seed))) in columns.enumerate() {
            let position = self.sequences.get(slot.0).map_or(0, |s| s.tokens.len());
            cursor.place(i, slot.0, (*token, position), sampler);
            *settings = sampler.settings().row();
            *seed = sampler.draws().0;
        }
        cursor.pad(parts.len());

        step.set(names::CURSOR, cursor.bytes())?;
        step.set(names::SETTINGS, bytemuck::cast_slice(&settings))?;
        step.set(names::SEEDS, bytemuck::cast_slice(&seeds))?;
        step.set(names::PAGE_TABLE, self.pages.table())?;
        // Until the tokens are here nobody knows how far the device came.
        step.held(names::CURSOR).clear();
        step.run()?;
        let mut chosen: Vec<TokenId> = vec![0; n];
        step.get_into(names::NEXT, bytemuck::cast_slice_mut(&mut chosen))?;
        chosen.truncate(parts.len());
        for (i, token) in chosen.iter().enumerate() {
            cursor.move_on(i, *token);
        }
        step.held(names::CURSOR).extend_from_slice(cursor.bytes());
        next.append(&mut chosen);
        Ok(())
    }
}

impl Slot<'_> {
    /// Appends a token and returns the next one: [`Session::decode`] of this slot alone.
    ///
    /// # Errors
    /// Those of [`Session::decode`].
    pub fn decode(
        &mut self,
        token: TokenId,
        sampler: &mut Sampler,
    ) -> Result<TokenId, SessionError> {
        let slot = self.id();
        let next = self.session.decode(&mut [(slot, token, sampler)])?;
        // There is one for each part.
        next.first().copied().ok_or(SessionError::EmptyPrompt)
    }
}
