//! `ggrs logits`: the next-token logits of every position of a text, to a file, for comparing engines.

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use ggrs_model::{Logits, SessionError};

use crate::console::Console;
use crate::error::CliError;
use crate::load::{load_model, open_file, open_session};
use crate::options::{ContextOptions, DeviceOptions};
use crate::progress::Unit;
use crate::prompt::plain_ids;
use crate::tensor_file::TensorPath;
use crate::text_input::{argument_or_stdin, read_text};
use crate::token_ids::TokenIds;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "ggrs logits [OPTIONS] --output <FILE> <TEXT|--ids <IDS>|--prompt-file <FILE>>"
)]
#[command(group(ArgGroup::new("input").args(["text", "ids", "prompt_file"]).required(true)))]
pub(crate) struct Args {
    /// The text; `-` reads it from stdin
    text: Option<String>,
    /// Token ids instead of text, separated by commas
    #[arg(long, value_name = "IDS")]
    ids: Option<TokenIds>,
    /// Read the text from a file; `-` is stdin
    #[arg(short = 'f', long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Read control tokens such as <|im_end|> in the text as the tokens that they name
    #[arg(long)]
    special: bool,
    /// Where to write the logits, F32 [n_tokens, n_vocab]: a name that ends in .npy or .safetensors
    #[arg(short, long, value_name = "FILE")]
    output: TensorPath,
    /// The model [default: the demo model that is part of the program]
    #[arg(short, long, value_name = "MODEL.gguf")]
    model: Option<PathBuf>,
    #[command(flatten)]
    context: ContextOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    let text = match (args.text, &args.prompt_file) {
        (Some(text), _) => Some(argument_or_stdin(text)?),
        (None, Some(path)) => Some(read_text(Path::new(path))?),
        (None, None) => None,
    };
    let model = load_model(open_file(args.model.as_deref())?, &args.device, console)?;
    let ids = match (text, args.ids) {
        (Some(text), _) => plain_ids(&model, &text, args.special)?,
        (None, ids) => ids.map(|ids| ids.0).unwrap_or_default(),
    };
    let options = args
        .context
        .session_options(Some(ids.len().max(1)), args.device.precision);
    let mut session = open_session(&model, &options)?;
    let n_vocab = model.architecture().n_vocab();
    if ids.is_empty() {
        return Err(SessionError::EmptyPrompt.into());
    }
    let bar = console.bar("prefill", Unit::Tokens);
    bar.set_length(ids.len() as u64);
    args.output.write("logits", [ids.len(), n_vocab], |rows| {
        // A batch at a time: all logits of a long text would not fit in memory.
        for batch in ids.chunks(options.n_batch) {
            rows(&session.feed(batch, Logits::All)?)?;
            bar.inc(batch.len() as u64);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    console.note(format_args!(
        "{}: logits F32 [{}, {n_vocab}]",
        args.output.path().display(),
        ids.len()
    ));
    Ok(())
}
