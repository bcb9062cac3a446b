//! Text from files and from standard input, checked to be UTF-8. What it is for is not known here.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::error::CliError;

/// What stands for standard input on the command line.
pub(crate) const STDIN: &str = "-";

/// What errors call standard input.
const STDIN_NAME: &str = "standard input";

/// The text of a file, or of standard input for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, CliError> {
    let is_stdin = path.as_os_str() == STDIN;
    let name = if is_stdin {
        STDIN_NAME.to_owned()
    } else {
        path.display().to_string()
    };
    let bytes = if is_stdin {
        read_stdin()
    } else {
        fs::read(path)
    };
    match bytes {
        Ok(bytes) => utf8(bytes, name, 0),
        Err(source) => Err(CliError::Read { name, source }),
    }
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The words of an argument, or standard input if the argument is `-`.
pub(crate) fn argument_or_stdin(argument: String) -> Result<String, CliError> {
    if argument == STDIN {
        read_text(Path::new(STDIN))
    } else {
        Ok(argument)
    }
}

/// A line of standard input whose first byte is at `offset` of it.
pub(crate) fn stdin_line(line: Vec<u8>, offset: usize) -> Result<String, CliError> {
    utf8(line, STDIN_NAME.to_owned(), offset)
}

fn utf8(bytes: Vec<u8>, name: String, start: usize) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|error| CliError::NotUtf8 {
        name,
        offset: start + error.utf8_error().valid_up_to(),
    })
}
