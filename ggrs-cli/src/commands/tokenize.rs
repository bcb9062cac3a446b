//! `ggrs tokenize`: text to token ids and back.

use std::path::PathBuf;

use ggrs_model::LoadOptions;
use ggrs_model::tokenizer::EncodeOptions;
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::load::open_file;
use crate::registry::{NULL, registry};
use crate::text_input::argument_or_stdin;
use crate::token_ids::TokenIds;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text; `-` reads it from stdin
    #[arg(required_unless_present = "decode", conflicts_with = "decode")]
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
    let device = registry(None)?.open(NULL)?;
    let file = open_file(args.model.as_deref())?;
    let model = ggrs_model::Model::from_file(file, device, LoadOptions::default(), &mut |_, _| {})?;
    let tokenizer = model.tokenizer()?;
    match (args.text, args.decode) {
        (_, Some(ids)) => {
            let text = tokenizer.decode(&ids.0)?;
            if args.json { console.json(&json!({ "text": text })) } else { console.line(text) }
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
