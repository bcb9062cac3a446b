//! From words to the token ids of a prompt: plain, or by the model's chat template.

use ggrs_model::chat::{ChatTemplate, Message, RenderOptions};
use ggrs_model::tokenizer::{EncodeOptions, TokenId};
use ggrs_model::{Model, SessionError};

/// The ids of plain text, begun as the model was trained to begin.
pub(crate) fn plain_ids(
    model: &Model,
    text: &str,
    parse_special: bool,
) -> Result<Vec<TokenId>, SessionError> {
    let tokenizer = model.tokenizer()?;
    let options = EncodeOptions {
        add_bos: tokenizer.add_bos(),
        parse_special,
    };
    Ok(tokenizer.encode(text, options)?)
}

/// The ids of a chat up to where the assistant answers.
pub(crate) fn chat_ids(
    model: &Model,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Vec<TokenId>, SessionError> {
    let text = template.render(messages, &RenderOptions::default())?;
    // The template spells out whatever stands at the beginning.
    let options = EncodeOptions {
        add_bos: false,
        parse_special: true,
    };
    Ok(model.tokenizer()?.encode(&text, options)?)
}
