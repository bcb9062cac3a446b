//! The program `ggrs`: reads the command line, runs one command, says how it ended. Knows no command's business.

mod answer;
mod cli;
mod commands;
mod console;
mod demo;
mod error;
mod load;
mod logging;
mod options;
mod progress;
mod prompt;
mod registry;
mod tensor_file;
mod text_input;
mod token_ids;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::console::Console;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    let mut console = Console::new(cli.verbose == 0);
    match cli.command.run(&mut console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(&console),
    }
}
