//! Standard output and standard error: the only file that prints. Results go to the one, everything else to the
//! other. Knows no command.

use std::fmt::Display;
use std::io::{self, Write};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::error::CliError;
use crate::progress::{self, Unit};

/// Where commands say things.
pub(crate) struct Console {
    /// Progress bars may be drawn; they would be torn apart by log lines.
    with_bars: bool,
}

impl Console {
    pub(crate) const fn new(with_bars: bool) -> Self {
        Self { with_bars }
    }

    /// A piece of a result, visible at once.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(CliError::Output)
    }

    /// A line of a result.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), CliError> {
        writeln!(io::stdout().lock(), "{line}").map_err(CliError::Output)
    }

    /// A result for programs.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, value)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
            .map_err(CliError::Output)
    }

    /// What is not a result: timings, errors. If even that cannot be written there is nowhere left to say so.
    pub(crate) fn note(&self, note: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{note}");
    }

    /// A progress bar on stderr, drawn only if that is a terminal.
    pub(crate) fn bar(&self, label: &'static str, unit: Unit) -> ProgressBar {
        if self.with_bars {
            progress::bar(label, unit)
        } else {
            ProgressBar::hidden()
        }
    }
}
