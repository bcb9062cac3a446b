//! The bytes that each token stands for: the decoding half of a vocabulary. Knows nothing of how
//! text is split or merged.

use super::alphabet::byte_of_char;
use super::{TokenId, TokenType, TokenizerError, Vocab};

/// The bytes of all tokens, one after another.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// Where each token's bytes end; they begin where the token before it ends.
    ends: Vec<usize>,
}

impl Pieces {
    /// Writes out the bytes of every token of a vocabulary.
    pub(super) fn new(vocab: &Vocab<'_>) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(vocab.tokens.len());
        for (idx, text) in vocab.tokens.iter().enumerate() {
            let token_type = vocab.token_types.get(idx).copied();
            if token_type.unwrap_or(TokenType::Normal) == TokenType::Normal {
                for character in text.chars() {
                    match byte_of_char(character) {
                        Some(byte) => bytes.push(byte),
                        // Outside the byte alphabet a character can only stand for itself.
                        None => bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            } else {
                bytes.extend_from_slice(text.as_bytes());
            }
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of one token.
    pub(super) fn get(&self, id: TokenId) -> Result<&[u8], TokenizerError> {
        let bytes_of = |idx: usize| {
            let start = match idx.checked_sub(1) {
                Some(before) => *self.ends.get(before)?,
                None => 0,
            };
            self.bytes.get(start..*self.ends.get(idx)?)
        };
        usize::try_from(id)
            .ok()
            .and_then(bytes_of)
            .ok_or(TokenizerError::IdOutOfRange {
                id,
                n_tokens: self.len(),
            })
    }
}
