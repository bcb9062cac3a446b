//! Why a command failed, as the user is told: the chain of causes in a few lines, and the exit status.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use ggrs_core::DeviceError;
use ggrs_cpu::isa::IsaError;
use ggrs_model::chat::ChatError;
use ggrs_model::fit::FitError;
use ggrs_model::gguf::GgufError;
use ggrs_model::sampling::SamplerConfigError;
use ggrs_model::synth::SynthError;
use ggrs_model::tokenizer::TokenizerError;
use ggrs_model::{DeployError, ModelError, SessionError};
use ggrs_sched::SchedError;

use crate::console::Console;

/// The exit status of a command that was asked for in the wrong way; the argument parser uses the same.
const USAGE_STATUS: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Placement(#[from] SchedError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Sampler(#[from] SamplerConfigError),
    #[error(transparent)]
    Synth(#[from] SynthError),
    /// Arguments that contradict each other.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot read {name}")]
    Read { name: String, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{name} is not UTF-8 text: the bytes at offset {offset} are no character; convert it to UTF-8 first"
    )]
    NotUtf8 { name: String, offset: usize },
    #[error("the line cannot be read from the terminal")]
    Terminal(#[source] rustyline::error::ReadlineError),
    #[error(
        "the text has {n_tokens} tokens, one window of {window} does not fit; give a longer text or a smaller --ctx"
    )]
    TextTooShort { n_tokens: usize, window: usize },
    #[error("a window of {window} tokens is too small to score; ask for at least {min} (--ctx)")]
    WindowTooSmall { window: usize, min: usize },
    #[error(
        "the logits at position {position} of window {window} are not finite: the model's weights are damaged, or a value overflowed"
    )]
    NotFinite { position: usize, window: usize },
    /// Kernels that are compiled ahead.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Kernel(#[from] ggrs_cuda::simt::compile::CompileError),
    #[cfg(feature = "cuda")]
    #[error("the processes that compile kernels cannot be run")]
    Process { source: io::Error },
    #[cfg(feature = "cuda")]
    #[error("kernels for {arch} are not ready: {error}")]
    Kernels { arch: String, error: String },
}

impl CliError {
    /// A usage error of one command, as the argument parser would report it.
    pub(crate) fn usage(command: &str, kind: ErrorKind, message: impl fmt::Display) -> Self {
        use clap::CommandFactory as _;
        let mut program = crate::cli::Cli::command();
        program.build();
        match program.find_subcommand_mut(command) {
            Some(command) => command.error(kind, message).into(),
            None => program.error(kind, message).into(),
        }
    }

    /// Tells the user and gives the exit status. Whoever closed our output wants to hear no more.
    pub(crate) fn report(&self, console: &Console) -> ExitCode {
        match self {
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Usage(usage) => {
                console.note(usage.render().to_string().trim_end());
                ExitCode::from(USAGE_STATUS)
            }
            _ => {
                console.note(Chain(self));
                ExitCode::FAILURE
            }
        }
    }
}

/// An error with its causes, one a line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        write!(f, "error: {said}")?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors already say what caused them.
            if !said.ends_with(&text) {
                write!(f, "\n  caused by: {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let link = |text, source: Option<Link>| Link {
            text,
            source: source.map(Box::new),
        };
        let error = link(
            "no plan",
            Some(link(
                "no kernel: bad",
                Some(link("bad", Some(link("end", None)))),
            )),
        );
        let text = Chain(&error).to_string();
        assert_eq!(
            text,
            "error: no plan\n  caused by: no kernel: bad\n  caused by: end"
        );
    }
}
