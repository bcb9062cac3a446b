//! The command line as a whole: the commands and what all of them take. Each command's own arguments are in its file.

use clap::{Parser, Subcommand};

#[cfg(feature = "cuda")]
use crate::commands::kernels;
use crate::commands::{
    bench, chat, devices, inspect, logits, perplexity, plan, run, synth, tokenize,
};
use crate::console::Console;
use crate::error::CliError;

/// Runs mixture-of-experts language models from GGUF files.
#[derive(Debug, Parser)]
#[command(name = "ggrs", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Say more on stderr: -v what is planned, -vv every step that is compiled, -vvv whole plans
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer one prompt
    Run(run::Args),
    /// Talk with a model
    Chat(chat::Args),
    /// Show what would lie and run where, without computing anything
    Plan(plan::Args),
    /// Measure prefill and decode speed
    Bench(bench::Args),
    /// Show what a GGUF file contains
    Inspect(inspect::Args),
    /// List the devices
    Devices(devices::Args),
    /// Compile all kernels of a GPU before they are needed
    #[cfg(feature = "cuda")]
    Kernels(kernels::Args),
    /// Write a model of a real model's shape with random weights
    Synth(synth::Args),
    /// Turn text into token ids, or ids into text
    Tokenize(tokenize::Args),
    /// Write the next-token logits of every position to a file
    Logits(logits::Args),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::Args),
}

impl Command {
    pub(crate) fn run(self, console: &mut Console) -> Result<(), CliError> {
        match self {
            Self::Run(args) => run::run(args, console),
            Self::Chat(args) => chat::run(args, console),
            Self::Plan(args) => plan::run(args, console),
            Self::Bench(args) => bench::run(args, console),
            Self::Inspect(args) => inspect::run(&args, console),
            Self::Devices(args) => devices::run(&args, console),
            #[cfg(feature = "cuda")]
            Self::Kernels(args) => kernels::run(&args, console),
            Self::Synth(args) => synth::run(&args, console),
            Self::Tokenize(args) => tokenize::run(args, console),
            Self::Logits(args) => logits::run(args, console),
            Self::Perplexity(args) => perplexity::run(args, console),
        }
    }
}
