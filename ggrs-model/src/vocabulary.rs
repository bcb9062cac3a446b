//! The tokenizer from a file's metadata.

use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::tokenizer::{TokenType, Tokenizer, Vocab};
use crate::weights::first_path;

/// The tokenizer of a file of any architecture, or `None` if the file says that it has no vocabulary (`no_vocab`).
///
/// # Errors
/// A key that is missing or impossible, a tokenizer that GGRS does not implement.
pub fn load_tokenizer(file: &GgufFile) -> Result<Option<Tokenizer>, ModelError> {
    let meta = file.metadata();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let model: Option<&str> = meta.get(&key("model"))?;
    let Some(model) = model.filter(|m| !matches!(*m, "no_vocab" | "none")) else {
        return Ok(None);
    };
    let types: Vec<i32> = meta.get(&key("token_type"))?.unwrap_or_default();
    let token_types = types
        .into_iter()
        .map(|n| {
            TokenType::from_gguf(n).ok_or_else(|| ModelError::Key {
                path: first_path(file),
                key: key("token_type"),
                found: u64::from(n.unsigned_abs()),
                rule: "a token type from 1 to 6",
            })
        })
        .collect::<Result<_, _>>()?;
    let vocab = Vocab {
        model,
        pre: meta.get(&key("pre"))?.unwrap_or("default"),
        tokens: meta.require(&key("tokens"))?,
        token_types,
        merges: meta.get(&key("merges"))?.unwrap_or_default(),
        bos: meta.get(&key("bos_token_id"))?,
        eos: meta.get(&key("eos_token_id"))?,
        eot: meta.get(&key("eot_token_id"))?,
        pad: meta.get(&key("padding_token_id"))?,
        add_bos: meta.get(&key("add_bos_token"))?.unwrap_or(false),
    };
    Tokenizer::new(&vocab)
        .map(Some)
        .map_err(|source| ModelError::Tokenizer {
            path: first_path(file),
            source,
        })
}
