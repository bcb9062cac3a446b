//! The tokenizer: a checked vocabulary with its rules, from text to ids and from ids to bytes.
//! Knows no file format and no model.

use super::byte_pairs::{BytePairs, Chain};
use super::pieces::Pieces;
use super::pre_tokenizer::WordSplitter;
use super::special_tokens::SpecialTokens;
use super::{PreTokenizer, TokenId, TokenType, TokenizerError, Vocab};

/// The one algorithm so far, by its name in model files: byte-level BPE.
const BYTE_LEVEL_BPE: &str = "gpt2";

/// Control tokens that end an answer whatever the file names as `eos`: Qwen's and Gemma's end of a
/// turn, and Qwen's end of a text. Base and chat models of one family differ in which one is `eos`.
const ENDS_OF_GENERATION: [&str; 4] = ["<|im_end|>", "<|endoftext|>", "<end_of_turn>", "<turn|>"];

/// Converts between text and token ids. Made from a [`Vocab`], then immutable.
///
/// Text is not normalised: `e` with a combining accent and `é` give different ids, as in llama.cpp
/// and unlike Hugging Face's Qwen tokenizers, which apply NFC first.
///
/// ```
/// # use ggrs_model::tokenizer::{EncodeOptions, Tokenizer, TokenizerError, Vocab};
/// let tokenizer = Tokenizer::new(&Vocab {
///     model: "gpt2",
///     pre: "qwen2",
///     tokens: vec!["h", "i", "Ġ", "hi", "Ġhi"],
///     merges: vec!["h i", "Ġ hi"],
///     ..Vocab::default()
/// })?;
/// let ids = tokenizer.encode("hi hi", EncodeOptions::default())?;
/// assert_eq!(ids, [3, 4]);
/// assert_eq!(tokenizer.decode(&ids)?, "hi hi");
/// # Ok::<(), TokenizerError>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    splitter: WordSplitter,
    byte_pairs: BytePairs,
    special_tokens: SpecialTokens,
    pieces: Pieces,
    /// In ascending order.
    control: Vec<TokenId>,
    /// In ascending order.
    ends_of_generation: Vec<TokenId>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    pad: Option<TokenId>,
    add_bos: bool,
}

/// How a text is to be read. The default takes it as plain text, with nothing before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Begin with the `bos` token. [`Tokenizer::add_bos`] says whether the model wants it.
    pub add_bos: bool,
    /// Read `<|im_end|>` and other control tokens as the tokens that they name. For text from a
    /// chat template; for text from a user it would let the user speak in any role.
    pub parse_special: bool,
}

impl Tokenizer {
    /// Checks a vocabulary and prepares it for use.
    ///
    /// # Errors
    /// The vocabulary names an algorithm or a pre-tokenizer that is not implemented, is empty, or
    /// contradicts itself.
    pub fn new(vocab: &Vocab<'_>) -> Result<Self, TokenizerError> {
        let n_tokens = vocab.tokens.len();
        if vocab.model != BYTE_LEVEL_BPE {
            return Err(TokenizerError::UnsupportedModel {
                found: vocab.model.to_owned(),
                known: BYTE_LEVEL_BPE,
            });
        }
        let rule = PreTokenizer::from_name(vocab.pre)?;
        if n_tokens == 0 {
            return Err(TokenizerError::EmptyVocab);
        }
        if !vocab.token_types.is_empty() && vocab.token_types.len() != n_tokens {
            return Err(TokenizerError::TokenTypeCount {
                n_tokens,
                n_types: vocab.token_types.len(),
            });
        }
        for (role, id) in [
            ("bos", vocab.bos),
            ("eos", vocab.eos),
            ("eot", vocab.eot),
            ("padding", vocab.pad),
        ] {
            if let Some(id) = id
                && usize::try_from(id).is_ok_and(|idx| idx >= n_tokens)
            {
                return Err(TokenizerError::RoleOutOfRange { role, id, n_tokens });
            }
        }

        let ids_where = |matches: &dyn Fn(TokenType, &str) -> bool| -> Vec<TokenId> {
            (0..)
                .zip(vocab.token_types.iter().zip(&vocab.tokens))
                .filter(|(_, (token_type, text))| matches(**token_type, text))
                .map(|(id, _)| id)
                .collect()
        };
        let mut ends_of_generation = ids_where(&|token_type, text| {
            token_type != TokenType::Normal && ENDS_OF_GENERATION.contains(&text)
        });
        ends_of_generation.extend(vocab.eos.iter().chain(&vocab.eot));
        ends_of_generation.sort_unstable();
        ends_of_generation.dedup();

        Ok(Self {
            splitter: WordSplitter::new(rule)?,
            byte_pairs: BytePairs::new(vocab)?,
            special_tokens: SpecialTokens::new(vocab),
            pieces: Pieces::new(vocab),
            control: ids_where(&|token_type, _| token_type == TokenType::Control),
            ends_of_generation,
            bos: vocab.bos,
            eos: vocab.eos,
            pad: vocab.pad,
            add_bos: vocab.add_bos,
        })
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// The vocabulary has no token for a byte of the text, or no `bos` where one is asked for.
    pub fn encode(
        &self,
        text: &str,
        options: EncodeOptions,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = Vec::new();
        if options.add_bos {
            ids.push(self.bos.ok_or(TokenizerError::NoBos)?);
        }
        let mut chain = Chain::default();
        let mut offset = 0;
        while let Some(rest) = text.get(offset..)
            && !rest.is_empty()
        {
            let special = self.special_tokens.find(rest, options.parse_special);
            let plain_len = special.map_or(rest.len(), |found| found.start);
            let plain = rest.get(..plain_len).unwrap_or_default();
            self.encode_plain(plain, offset, &mut chain, &mut ids)?;
            ids.extend(special.map(|found| found.id));
            offset += special.map_or(plain_len, |found| found.end);
        }
        Ok(ids)
    }

    fn encode_plain(
        &self,
        mut text: &str,
        mut offset: usize,
        chain: &mut Chain,
        ids: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        while !text.is_empty() {
            let (word, rest) = self.splitter.split_first(text)?;
            self.byte_pairs
                .encode_word(word.as_bytes(), offset, chain, ids)?;
            offset += word.len();
            text = rest;
        }
        Ok(())
    }

    /// The text of some ids, control tokens included, with U+FFFD where their bytes are not UTF-8.
    /// For ids that come one by one, see [`Utf8Stream`](super::Utf8Stream).
    ///
    /// # Errors
    /// An id is outside the vocabulary.
    pub fn decode(&self, ids: &[TokenId]) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.token_bytes(id)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes that a token stands for, or its name if it is a control token. One token may hold
    /// only a part of a character.
    ///
    /// # Errors
    /// The id is outside the vocabulary.
    pub fn token_bytes(&self, id: TokenId) -> Result<&[u8], TokenizerError> {
        self.pieces.get(id)
    }

    /// Whether a model that produces this id has said all that it wants to say: `eos`, `eot`, and
    /// the other ends of a turn or text that Qwen and Gemma models use.
    pub fn is_end_of_generation(&self, id: TokenId) -> bool {
        self.ends_of_generation.binary_search(&id).is_ok()
    }

    /// Whether the token steers the model and is not part of its answer's text.
    pub fn is_control(&self, id: TokenId) -> bool {
        self.control.binary_search(&id).is_ok()
    }

    /// How many tokens there are; ids run from 0 to one less.
    pub fn n_tokens(&self) -> usize {
        self.pieces.len()
    }

    /// The rule by which text is cut into words.
    pub fn pre_tokenizer(&self) -> PreTokenizer {
        self.splitter.rule()
    }

    /// The token that begins a text, if there is one.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// The token that ends a text or an answer, if there is one.
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// The token that fills unused places, if there is one.
    pub fn pad(&self) -> Option<TokenId> {
        self.pad
    }

    /// Whether the model was trained with `bos` before every text.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }
}
