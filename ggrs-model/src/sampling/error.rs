//! What can be wrong with sampler settings or with logits. Knows no algorithm.

use crate::tokenizer::TokenId;

/// Why sampler settings were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerConfigError {
    /// A setting is outside its range.
    #[error("sampler setting `{field}` is {value}, allowed is {allowed}")]
    OutOfRange {
        /// The field of [`SamplerConfig`](super::SamplerConfig).
        field: &'static str,
        /// The value given.
        value: f32,
        /// The range, in words.
        allowed: &'static str,
    },
}

/// Why no token could be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// There are no logits.
    #[error("there are no logits to choose a token from")]
    NoLogits,

    /// A logit is NaN or +inf: the model's computation went wrong.
    #[error("the logit of token {id} is {value}, expected a number or -inf")]
    BadLogit {
        /// The first token with such a logit.
        id: TokenId,
        /// Its logit.
        value: f32,
    },

    /// Every logit is -inf.
    #[error("all {n_logits} logits are -inf, so no token is allowed")]
    AllMasked {
        /// How many logits there are.
        n_logits: usize,
    },

    /// A token accepted earlier has no logit: it belongs to another vocabulary.
    #[error("token {id} was accepted, but there are only {n_logits} logits")]
    AcceptedOutOfRange {
        /// The token.
        id: TokenId,
        /// How many logits there are.
        n_logits: usize,
    },
}
