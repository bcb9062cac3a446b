//! Checkpoints: positions of a slot that it can be rolled back to.
//!
//! Attention keeps a row for every position, so a checkpoint is a position and costs nothing. A state that is
//! overwritten by every token (one row for each slot) will have to be copied when the checkpoint is made: its bytes
//! belong into [`Mark`].

use std::sync::atomic::{AtomicU64, Ordering};

use super::open::Session;
use super::slot::{Slot, SlotId};
use crate::error::SessionError;

/// A place in a slot's sequence, to return to.
///
/// It is good until a token before its position is forgotten: by a rollback to an earlier one, by a prefill with
/// another prompt, or because the slot was given to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    slot: SlotId,
    position: usize,
    id: u64,
}

impl Checkpoint {
    /// The slot.
    pub const fn slot(&self) -> SlotId {
        self.slot
    }

    /// Tokens before it.
    pub const fn position(&self) -> usize {
        self.position
    }
}

/// No two checkpoints of a process are the same, so none is good in a session that did not make it.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A slot's checkpoints, the earliest position first.
#[derive(Default)]
pub(super) struct Checkpoints {
    marks: Vec<Mark>,
}

struct Mark {
    position: usize,
    id: u64,
}

impl Checkpoints {
    /// Drops those behind position `n`.
    pub(super) fn truncate(&mut self, n: usize) {
        self.marks.retain(|m| m.position <= n);
    }

    /// The one at the end, position `n`.
    fn at_end(&mut self, n: usize) -> u64 {
        match self.marks.last() {
            Some(last) if last.position == n => last.id,
            _ => {
                let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
                self.marks.push(Mark { position: n, id });
                id
            }
        }
    }

    fn has(&self, id: u64) -> bool {
        self.marks.iter().any(|m| m.id == id)
    }
}

impl Slot<'_> {
    /// A checkpoint behind the tokens that the slot holds now.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let slot = self.id();
        let sequence = self.sequence_mut();
        let position = sequence.tokens.len();
        let id = sequence.checkpoints.at_end(position);
        Checkpoint { slot, position, id }
    }
}

impl Session {
    /// Makes a slot what it was when the checkpoint was made.
    ///
    /// # Errors
    /// The checkpoint is gone. The session stays as it was.
    pub fn rollback(&mut self, to: &Checkpoint) -> Result<(), SessionError> {
        let mut slot = self.slot(to.slot)?;
        if !slot.sequence_mut().checkpoints.has(to.id) {
            return Err(SessionError::CheckpointGone {
                slot: to.slot,
                position: to.position,
                n_tokens: slot.tokens().len(),
            });
        }
        slot.truncate(to.position);
        Ok(())
    }
}
