//! `ggrs run`: one prompt, one answer, its timing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use ggrs_model::chat::Message;
use ggrs_model::tokenizer::TokenId;
use ggrs_model::{Model, SessionError};

use crate::answer::answer;
use crate::console::Console;
use crate::error::CliError;
use crate::load::{load_placed, open_file, open_session};
use crate::options::{ContextOptions, DeviceOptions, FitArgs, SamplingOptions, StateOptions};
use crate::prompt::{chat_ids, plain_ids};
use crate::text_input::{argument_or_stdin, read_text};

#[derive(Debug, clap::Args)]
#[command(override_usage = "ggrs run [OPTIONS] [MODEL.gguf] <PROMPT>")]
pub(crate) struct Args {
    /// The model [default: the demo model that is part of the program]
    #[arg(value_name = "MODEL.gguf")]
    first: Option<OsString>,
    /// The prompt; `-` reads it from stdin
    #[arg(value_name = "PROMPT")]
    second: Option<OsString>,
    /// Read the prompt from a file; `-` is stdin
    #[arg(short = 'f', long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Give the prompt to the model as it is, without its chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Print the answer, its tokens and timing as JSON once it is complete
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    context: ContextOptions,
    #[command(flatten)]
    state: StateOptions,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    fit: FitArgs,
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    let (path, prompt) = model_and_prompt(args.first, args.second, args.prompt_file.as_deref())?;
    let mut sampler = args.sampling.sampler()?;
    let file = open_file(path.as_deref())?;
    let mut options = args.context.session_options(None, args.device.precision);
    let (_, placement) = args.fit.place(&file, &args.device, &mut options)?;
    let model = load_placed(file, placement, &args.device, console)?;
    let ids = if args.raw {
        plain_ids(&model, &prompt, true)?
    } else {
        templated_ids(&model, args.system, prompt)?
    };
    let mut session = open_session(&model, &options)?;
    args.state.load(&mut session)?;
    let limits = args.sampling.limits();
    let answer = answer(
        &mut session,
        &ids,
        &mut sampler,
        &limits,
        !args.json,
        console,
    )?;
    args.state.save(&mut session)?;
    if args.json {
        return console.json(&answer.to_json());
    }
    console.note(&answer);
    Ok(())
}

/// Which word is the model and which the prompt: a single one is the prompt.
fn model_and_prompt(
    first: Option<OsString>,
    second: Option<OsString>,
    prompt_file: Option<&Path>,
) -> Result<(Option<PathBuf>, String), CliError> {
    let usage = |kind, message: &str| Err(CliError::usage("run", kind, message));
    let (model, prompt) = match (first, second, prompt_file) {
        (model, None, Some(file)) => return Ok((model.map(PathBuf::from), read_text(file)?)),
        (Some(_), Some(_), Some(_)) => {
            return usage(
                ErrorKind::ArgumentConflict,
                "a prompt and --prompt-file exclude each other",
            );
        }
        (Some(model), Some(prompt), None) => (Some(PathBuf::from(model)), prompt),
        (Some(prompt), None, None)
            if Path::new(&prompt).extension().is_some_and(|e| e == "gguf") =>
        {
            return usage(
                ErrorKind::MissingRequiredArgument,
                "a model, but no prompt: give the prompt after it, or --prompt-file",
            );
        }
        (Some(prompt), None, None) => (None, prompt),
        (None, ..) => {
            return usage(
                ErrorKind::MissingRequiredArgument,
                "no prompt: give one, or --prompt-file",
            );
        }
    };
    let prompt = prompt.into_string().map_err(|raw| CliError::NotUtf8 {
        name: "the prompt".to_owned(),
        offset: raw
            .to_string_lossy()
            .find(char::REPLACEMENT_CHARACTER)
            .unwrap_or(0),
    })?;
    Ok((model, argument_or_stdin(prompt)?))
}

/// The prompt as a user's message; as plain text for a model that knows no chats.
fn templated_ids(
    model: &Model,
    system: Option<String>,
    prompt: String,
) -> Result<Vec<TokenId>, CliError> {
    model.tokenizer()?;
    let template = match model.chat_template() {
        Ok(template) => template,
        Err(SessionError::Lacks { .. }) => {
            tracing::warn!("the model has no chat template: the prompt is given as plain text");
            let text =
                system.map_or_else(|| prompt.clone(), |system| format!("{system}\n\n{prompt}"));
            return Ok(plain_ids(model, &text, true)?);
        }
        Err(error) => return Err(error.into()),
    };
    let system = system.map(|text| Message::new("system", text));
    let messages: Vec<Message> = system
        .into_iter()
        .chain([Message::new("user", prompt)])
        .collect();
    Ok(chat_ids(model, &template, &messages)?)
}
