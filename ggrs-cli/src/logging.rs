//! Log lines on stderr, as many as `-v` asks for. What is logged is decided where it happens.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

/// Starts logging: warnings always, `-v` info, `-vv` debug, `-vvv` everything.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .init();
}
