//! What can be wrong with a vocabulary, a text or an id. Knows no algorithm.

use super::TokenId;

/// Why a vocabulary was refused, or why a text or an id could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The algorithm that the vocabulary names is not implemented.
    #[error("tokenizer model `{found}` is not supported (supported: {known})")]
    UnsupportedModel {
        /// The name in the vocabulary.
        found: String,
        /// The names that are supported, separated by commas.
        known: &'static str,
    },

    /// The pre-tokenizer that the vocabulary names is not implemented.
    #[error(
        "pre-tokenizer `{found}` is not supported (supported: {known}): \
         another one's rules would give other token ids than the model was trained with"
    )]
    UnsupportedPreTokenizer {
        /// The name in the vocabulary.
        found: String,
        /// The names that are supported, separated by commas.
        known: String,
    },

    /// The vocabulary holds no tokens.
    #[error("the vocabulary is empty")]
    EmptyVocab,

    /// The vocabulary is larger than ids can count.
    #[error("the vocabulary has {n_tokens} tokens and {n_merges} merges, more than ids can count")]
    VocabTooLarge {
        /// How many tokens there are.
        n_tokens: usize,
        /// How many merges there are.
        n_merges: usize,
    },

    /// There is not one token type per token.
    #[error("the vocabulary has {n_tokens} tokens but {n_types} token types")]
    TokenTypeCount {
        /// How many tokens there are.
        n_tokens: usize,
        /// How many types there are.
        n_types: usize,
    },

    /// A merge is not two pieces with one space between them.
    #[error("merge {rank} is `{text}`, expected two pieces separated by a space")]
    BadMerge {
        /// The merge's place in the list, from 0.
        rank: usize,
        /// The merge as it stands.
        text: String,
    },

    /// A token that the vocabulary names by its role does not exist.
    #[error("the {role} token is id {id}, but the vocabulary has {n_tokens} tokens")]
    RoleOutOfRange {
        /// The role: `bos`, `eos`, `eot` or `padding`.
        role: &'static str,
        /// The id given.
        id: TokenId,
        /// How many tokens there are.
        n_tokens: usize,
    },

    /// The caller asked for a token before the text that the vocabulary does not have.
    #[error("the text is to begin with a bos token, but the vocabulary names none")]
    NoBos,

    /// A text holds a byte that no token expresses.
    #[error("byte 0x{byte:02x} at offset {offset} of the text has no token in the vocabulary")]
    ByteNotInVocab {
        /// The byte.
        byte: u8,
        /// Its offset in the text, in bytes.
        offset: usize,
    },

    /// An id is not in the vocabulary.
    #[error("token id {id} is outside the vocabulary of {n_tokens} tokens")]
    IdOutOfRange {
        /// The id given.
        id: TokenId,
        /// How many tokens there are; ids run from 0 to one less.
        n_tokens: usize,
    },

    /// The pattern engine failed.
    #[error("pre-tokenizer `{name}` failed")]
    Pattern {
        /// The pre-tokenizer's name.
        name: &'static str,
        /// What the engine reports.
        source: Box<fancy_regex::Error>,
    },
}
