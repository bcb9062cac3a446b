//! A sequence: what a slot holds. It must not know where its cells lie.

use super::checkpoints::Checkpoints;
use crate::tokenizer::TokenId;

/// What a slot holds.
#[derive(Default)]
pub(super) struct Sequence {
    /// The tokens whose keys and values are in the cache.
    pub(super) tokens: Vec<TokenId>,
    /// Where it can be rolled back to.
    pub(super) checkpoints: Checkpoints,
    /// Acquired and not yet released.
    pub(super) is_busy: bool,
    /// When it was acquired last, in acquisitions of the session.
    pub(super) acquired_at: u64,
}

impl Sequence {
    /// Forgets all tokens from position `n` on, and the checkpoints behind it.
    pub(super) fn truncate(&mut self, n: usize) {
        self.tokens.truncate(n);
        self.checkpoints.truncate(n);
    }
}

/// Tokens that two sequences begin with alike.
pub(super) fn common_prefix(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
