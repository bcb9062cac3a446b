//! `ggrs chat`: turns of a conversation until the input ends.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use ggrs_model::chat::{ChatTemplate, Message};
use ggrs_model::sampling::Sampler;
use ggrs_model::{Session, SessionError};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::answer::answer;
use crate::console::Console;
use crate::error::{Chain, CliError};
use crate::load::{load_placed, open_file, open_session};
use crate::options::{ContextOptions, DeviceOptions, FitArgs, SamplingOptions, StateOptions};
use crate::prompt::chat_ids;
use crate::text_input::stdin_line;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model [default: the demo model that is part of the program]
    #[arg(value_name = "MODEL.gguf")]
    model: Option<PathBuf>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
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
    let sampler = args.sampling.sampler()?;
    let file = open_file(args.model.as_deref())?;
    let mut options = args.context.session_options(None, args.device.precision);
    let (_, placement) = args.fit.place(&file, &args.device, &mut options)?;
    let model = load_placed(file, placement, &args.device, console)?;
    let template = model.chat_template()?;
    let mut chat = Chat {
        session: open_session(&model, &options)?,
        template,
        messages: args
            .system
            .map(|text| Message::new("system", text))
            .into_iter()
            .collect(),
        sampler,
        sampling: args.sampling,
    };
    args.state.load(&mut chat.session)?;
    let n_system = chat.messages.len();
    let mut input = Input::open()?;
    if input.is_terminal() {
        console.note("Type a message; /reset forgets the conversation, /quit or Ctrl-D ends it.");
    }
    loop {
        let line = match input.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error @ CliError::NotUtf8 { .. }) => {
                console.note(Chain(&error));
                continue;
            }
            Err(error) => return Err(error),
        };
        match line.trim() {
            "" => {}
            "/quit" => break,
            "/reset" => {
                chat.messages.truncate(n_system);
                chat.session.truncate(0);
            }
            word if word.starts_with('/') && !word.contains(char::is_whitespace) => {
                console.note(format_args!(
                    "no command {word}; there are /reset and /quit"
                ));
            }
            message => match chat.turn(message, console) {
                Ok(()) => {}
                Err(error @ CliError::Output(_)) => return Err(error),
                Err(error) => {
                    console.note(Chain(&error));
                    if matches!(error, CliError::Session(SessionError::ContextFull { .. })) {
                        console.note("  or begin anew: /reset");
                    }
                }
            },
        }
    }
    args.state.save(&mut chat.session)
}

/// A conversation.
struct Chat {
    session: Session,
    template: ChatTemplate,
    messages: Vec<Message>,
    sampler: Sampler,
    sampling: SamplingOptions,
}

impl Chat {
    /// One message and its answer. After an error the conversation is as it was before.
    fn turn(&mut self, message: &str, console: &mut Console) -> Result<(), CliError> {
        let before = self.messages.len();
        self.messages.push(Message::new("user", message));
        let answered = self.answer(console);
        match &answered {
            Ok(text) => self.messages.push(Message::new("assistant", text.clone())),
            Err(_) => self.messages.truncate(before),
        }
        answered.map(|_| ())
    }

    fn answer(&mut self, console: &mut Console) -> Result<String, CliError> {
        let ids = chat_ids(self.session.model(), &self.template, &self.messages)?;
        let limits = self.sampling.limits();
        let answer = answer(
            &mut self.session,
            &ids,
            &mut self.sampler,
            &limits,
            true,
            console,
        )?;
        tracing::info!("{answer}");
        Ok(answer.generation.text)
    }
}

/// Lines from a person at a terminal, or from a file or pipe.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe {
        /// Bytes of the lines before.
        offset: usize,
    },
}

impl Input {
    fn open() -> Result<Self, CliError> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe { offset: 0 });
        }
        DefaultEditor::new()
            .map(Box::new)
            .map(Self::Terminal)
            .map_err(CliError::Terminal)
    }

    const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line, or `None` at the end.
    fn next(&mut self) -> Result<Option<String>, CliError> {
        match self {
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    // A line that cannot be remembered can still be answered.
                    let _ = editor.add_history_entry(&line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(CliError::Terminal(error)),
            },
            Self::Pipe { offset } => {
                let mut line = Vec::new();
                let n_bytes =
                    io::stdin()
                        .lock()
                        .read_until(b'\n', &mut line)
                        .map_err(|source| CliError::Read {
                            name: "standard input".to_owned(),
                            source,
                        })?;
                let start = *offset;
                *offset += n_bytes;
                if n_bytes == 0 {
                    Ok(None)
                } else {
                    stdin_line(line, start).map(Some)
                }
            }
        }
    }
}
