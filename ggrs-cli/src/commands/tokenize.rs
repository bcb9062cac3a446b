//! `ggrs tokenize`: text to token ids and back.

use std::path::PathBuf;

use clap::ArgGroup;
use ggrs_model::tokenizer::EncodeOptions;
use ggrs_model::{SessionError, load_tokenizer};
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::load::open_file;
use crate::text_input::argument_or_stdin;
use crate::token_ids::TokenIds;

#[derive(Debug, clap::Args)]
#[command(override_usage = "ggrs tokenize [OPTIONS] <TEXT|--decode <IDS>>")]
#[command(group(ArgGroup::new("input").args(["text", "decode"]).required(true)))]
pub(crate) struct Args {
    /// The text; `-` reads it from stdin
    text: Option<String>,
    /// Token ids to turn into text, separated by commas
    #[arg(long, value_name = "IDS")]
    decode: Option<TokenIds>,
    /// Read control tokens such as <|im_end|> as the tokens that they name
    #[arg(long)]
    special: bool,
    /// The model whose vocabulary is used [default: the demo model that is part of the program]
    #[arg(short, long, value_name = "MODEL.gguf")]
    model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    // No weights are loaded: any file with a vocabulary that is known will do, whatever its architecture.
    let tokenizer =
        load_tokenizer(&open_file(args.model.as_deref())?)?.ok_or(SessionError::Lacks {
            what: "vocabulary",
            way_out: "name another one (--model)",
        })?;
    match (args.text, args.decode) {
        (_, Some(ids)) => {
            let text = tokenizer.decode(&ids.0)?;
            if args.json {
                console.json(&json!({ "text": text }))
            } else {
                console.line(text)
            }
        }
        (text, None) => {
            let text = argument_or_stdin(text.unwrap_or_default())?;
            let options = EncodeOptions {
                add_bos: tokenizer.add_bos(),
                parse_special: args.special,
            };
            let ids = tokenizer.encode(&text, options)?;
            let pieces = ids
                .iter()
                .map(|id| tokenizer.decode(&[*id]))
                .collect::<Result<Vec<_>, _>>()?;
            if args.json {
                return console.json(&json!({ "ids": ids, "pieces": pieces }));
            }
            for (id, piece) in ids.iter().zip(pieces) {
                console.line(format_args!("{id:>7} {piece:?}"))?;
            }
            Ok(())
        }
    }
}
