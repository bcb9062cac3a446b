//! A chat template, checked once and run for every chat: Jinja as Hugging Face's
//! `apply_chat_template` sets it up. Knows no tokens and no model.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use minijinja_contrib::pycompat;

use super::ChatError;
use super::clock;
use super::json::{self, JsonStyle};

/// The template's name in the engine's messages.
const NAME: &str = "chat_template";

/// One message of a chat: named fields, of which templates read `role`, `content`, and, where a
/// model knows them, `reasoning_content`, `tool_calls` and others.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Message(serde_json::Map<String, serde_json::Value>);

impl Message {
    /// A text spoken by `system`, `user`, `assistant` or another role that the template knows.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self::default()
            .with("role", role.into())
            .with("content", content.into())
    }

    /// The message with one more field, or another value in it.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.0.insert(field.into(), value.into());
        self
    }
}

/// What a template is told besides the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOptions {
    /// End with the beginning of the assistant's turn, so that the model answers. On by default.
    pub add_generation_prompt: bool,
    /// The functions that the model may call, as JSON schemas in OpenAI's form.
    pub tools: Vec<serde_json::Value>,
    /// Switches that a template defines for itself, such as `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            tools: Vec::new(),
            variables: serde_json::Map::new(),
        }
    }
}

/// A chat template, ready to run.
///
/// ```
/// # use ggrs_model::chat::{ChatError, ChatTemplate, Message, RenderOptions};
/// let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\
///               {% if add_generation_prompt %}<assistant>{% endif %}";
/// let template = ChatTemplate::new(source, None, Some("</s>"))?;
/// let text = template.render(&[Message::new("user", "Hello")], &RenderOptions::default())?;
/// assert_eq!(text, "<user>Hello</s><assistant>");
/// # Ok::<(), ChatError>(())
/// ```
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// Checks a template. `bos` and `eos` are the texts of those tokens, which templates may use;
    /// without one its variable is undefined.
    ///
    /// # Errors
    /// [`ChatError::Syntax`].
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self, ChatError> {
        let mut environment = environment();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        syntax
            .map(|syntax| environment.set_syntax(syntax))
            .and_then(|()| environment.add_template_owned(NAME, source.to_owned()))
            .map_err(|source| ChatError::Syntax { source })?;
        Ok(Self {
            environment,
            bos: bos.map(str::to_owned),
            eos: eos.map(str::to_owned),
        })
    }

    /// The text of a chat.
    ///
    /// # Errors
    /// There are no messages, the template refuses them, or it fails on them: for instance because
    /// a field is missing or is not of the kind that the template expects.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, ChatError> {
        if messages.is_empty() {
            return Err(ChatError::NoMessages);
        }
        let messages: Value = messages
            .iter()
            .map(|message| json::entries_to_template_value(&message.0))
            .collect();
        let tools = if options.tools.is_empty() {
            Value::from(())
        } else {
            options.tools.iter().map(json::to_template_value).collect()
        };
        // Of entries with the same name the last one counts.
        let tokens = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        let tokens = tokens
            .into_iter()
            .filter_map(|(name, text)| Some((name, Value::from(text.as_deref()?))));
        let variables = options.variables.iter();
        let variables =
            variables.map(|(name, value)| (name.as_str(), json::to_template_value(value)));
        let context = Value::from_pairs(tokens.chain(variables).chain([
            ("messages", messages),
            ("tools", tools),
            ("documents", Value::from(())),
            (
                "add_generation_prompt",
                Value::from(options.add_generation_prompt),
            ),
        ]));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(render_error)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

/// Jinja with what Hugging Face adds to it, and with Python's meaning where the engine's differs.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_debug(true); // so that errors say which variable is undefined
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| {
        if value.kind() == ValueKind::Number && !value.is_integer() {
            out.write_str(&json::python_float(f64::try_from(value.clone())?))?;
        } else {
            write!(out, "{value}")?;
        }
        Ok(())
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    // In Python texts and mappings are sequences, and `None` cannot be iterated over.
    environment.add_test("sequence", |value: &Value| {
        is_iterable(value) && value.kind() != ValueKind::Iterable
    });
    environment.add_test("iterable", is_iterable);
    environment
}

fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
            | ValueKind::String
            | ValueKind::Undefined
    )
}

/// Marks an error that the template raised on purpose.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Refusal(message)))
}

fn render_error(source: Error) -> ChatError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        if let Some(Refusal(message)) = error.downcast_ref() {
            return ChatError::Refused {
                message: message.clone(),
            };
        }
        cause = error.source();
    }
    ChatError::Render { source }
}

fn strftime_now(pattern: &str) -> Result<String, Error> {
    clock::format_now(pattern).map_err(|conversion| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now does not support `%{conversion}`"),
        )
    })
}

/// Hugging Face's `tojson`: `json.dumps` with `ensure_ascii=False` as its default, and none of
/// Jinja's escapes for HTML.
fn tojson(value: &Value, args: Kwargs) -> Result<String, Error> {
    const MAX_INDENT: usize = 64;
    let indent = match args.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(MAX_INDENT)),
        }),
    };
    let separators = args.get::<Option<Vec<String>>>("separators")?;
    let [item_separator, key_separator] = match separators.map(<[String; 2]>::try_from) {
        Some(Ok(separators)) => separators,
        Some(Err(_)) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "the separators of tojson must be two texts",
            ));
        }
        None => [if indent.is_some() { "," } else { ", " }, ": "].map(str::to_owned),
    };
    let style = JsonStyle {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: args.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    args.assert_all_used()?;
    json::dumps(value, &style)
}
