//! Text to token ids and back, from the vocabulary that a model file carries.
//!
//! This module must not know the file format: it takes a plain [`Vocab`], and whoever reads the
//! file fills it in.

mod alphabet;
mod byte_pairs;
mod codec;
mod error;
mod pieces;
mod pre_tokenizer;
mod special_tokens;
mod utf8_stream;
mod vocab;

pub use codec::{EncodeOptions, Tokenizer};
pub use error::TokenizerError;
pub use pre_tokenizer::PreTokenizer;
pub use utf8_stream::Utf8Stream;
pub use vocab::{TokenId, TokenType, Vocab};
