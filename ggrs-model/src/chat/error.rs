//! What can go wrong between a chat and its text. Knows nothing of how templates run.

/// Why a chat template was refused, or why a chat could not be written with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The template is not valid Jinja, or uses a tag that is not supported.
    #[error("the chat template is not valid")]
    Syntax {
        /// What the template engine reports, with the line.
        source: minijinja::Error,
    },

    /// The template itself refuses the chat, by calling `raise_exception`.
    #[error("the chat template refuses these messages: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },

    /// The template failed on this chat.
    #[error("the chat template failed")]
    Render {
        /// What the template engine reports, with the line.
        source: minijinja::Error,
    },

    /// There are no messages.
    #[error("the chat has no messages, a chat template needs at least one")]
    NoMessages,
}
