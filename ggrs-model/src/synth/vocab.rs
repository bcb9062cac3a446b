//! Vocabularies of synthetic models: none, or one that takes any text.
//!
//! How text is split into tokens is the tokenizer's business; this file only writes the keys it reads.

use std::str::FromStr;

use crate::gguf::writer::{GgufHeader, WriteError};

use super::error::SynthError;

/// The vocabulary of a synthetic model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Vocab {
    /// No tokens: the model takes and gives ids only.
    #[default]
    None,
    /// A byte-level vocabulary, filled up with tokens that no text contains: any text goes in.
    Dummy,
}

/// Token types of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

impl Vocab {
    /// Every vocabulary.
    pub const ALL: [Self; 2] = [Self::None, Self::Dummy];

    /// The vocabulary's name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dummy => "dummy",
        }
    }

    /// Writes the keys of a vocabulary of `n_tokens` tokens.
    pub(super) fn write_keys(
        self,
        n_tokens: usize,
        header: &mut GgufHeader,
    ) -> Result<(), WriteError> {
        match self {
            Self::None => header.set("tokenizer.ggml.model", "no_vocab"),
            Self::Dummy => write_dummy(n_tokens, header),
        }
    }
}

impl FromStr for Vocab {
    type Err = SynthError;

    fn from_str(name: &str) -> Result<Self, SynthError> {
        let unknown = || SynthError::UnknownVocab { found: name.into() };
        Self::ALL
            .into_iter()
            .find(|vocab| vocab.name().eq_ignore_ascii_case(name))
            .ok_or_else(unknown)
    }
}

fn write_dummy(n_tokens: usize, header: &mut GgufHeader) -> Result<(), WriteError> {
    let n_text_tokens = n_tokens.saturating_sub(1);
    let filler = (0..).map(|i| format!("\u{120}t{i}"));
    let mut tokens: Vec<String> = byte_tokens().chain(filler).take(n_text_tokens).collect();
    let mut types = vec![NORMAL; n_text_tokens];
    tokens.push("<|endoftext|>".into());
    types.push(CONTROL);

    header.set("tokenizer.ggml.model", "gpt2")?;
    header.set("tokenizer.ggml.pre", "qwen2")?;
    header.set("tokenizer.ggml.tokens", tokens)?;
    header.set("tokenizer.ggml.token_type", types)?;
    header.set("tokenizer.ggml.merges", ["\u{120} t"])?;
    header.set("tokenizer.ggml.eos_token_id", n_text_tokens as u32)?;
    header.set("tokenizer.ggml.add_bos_token", false)
}

/// GPT-2's characters for the 256 bytes: printable bytes stand for themselves, the others for U+0100 and up.
fn byte_tokens() -> impl Iterator<Item = String> {
    let is_printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let printable = (0..=255u8).filter(is_printable).map(char::from);
    let others = (0..=255u8)
        .filter(move |byte| !is_printable(byte))
        .zip('\u{100}'..)
        .map(|(_, c)| c);
    printable.chain(others).map(String::from)
}
