//! The vocabulary as a model file states it. Plain data: nothing is checked here, and nothing here
//! knows how the file is read or how text is split.

/// A token's index in the vocabulary, and its row in the embedding table.
pub type TokenId = u32;

/// A vocabulary in the terms of the GGUF keys `tokenizer.ggml.*`, as
/// [`Tokenizer::new`](super::Tokenizer::new) takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocab<'a> {
    /// `model`: the tokenizer's algorithm. `gpt2` is byte-level BPE.
    pub model: &'a str,
    /// `pre`: the rule that cuts text into words before the merges, such as `qwen2`.
    pub pre: &'a str,
    /// `tokens`: each token's text. Normal tokens are written in the byte alphabet of GPT-2, where
    /// `Ġ` is a space; control and user-defined tokens are written as they are.
    pub tokens: Vec<&'a str>,
    /// `token_type`: one entry per token; empty means that all are [`TokenType::Normal`].
    pub token_types: Vec<TokenType>,
    /// `merges`: `left right`, best first.
    pub merges: Vec<&'a str>,
    /// `bos_token_id`: begins a text.
    pub bos: Option<TokenId>,
    /// `eos_token_id`: ends a text.
    pub eos: Option<TokenId>,
    /// `eot_token_id`: ends a turn of a chat.
    pub eot: Option<TokenId>,
    /// `padding_token_id`: fills unused places.
    pub pad: Option<TokenId>,
    /// `add_bos_token`: whether the model was trained with `bos` before every text.
    pub add_bos: bool,
}

/// What a token stands for; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenType {
    /// 1: a piece of text, reached by merges.
    Normal,
    /// 2: stands for what the vocabulary cannot express.
    Unknown,
    /// 3: steers the model (`<|im_end|>`): found in a text only where the caller allows it.
    Control,
    /// 4: a piece of text added after training the merges: always found in a text, before them.
    UserDefined,
    /// 5: a place that nothing uses.
    Unused,
    /// 6: a single byte.
    Byte,
}

impl TokenType {
    /// The type with this number in a file, if there is one.
    pub fn from_gguf(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}
