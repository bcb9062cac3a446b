//! Chats as the text that a model was trained on, by the Jinja template in its file. Knows no
//! tokens: the text's control tokens are still spelled out.

mod clock;
mod error;
mod json;
mod template;

pub use error::ChatError;
pub use template::{ChatTemplate, Message, RenderOptions};
