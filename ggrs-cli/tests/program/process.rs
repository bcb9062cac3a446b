//! Running the built program. Judges nothing but that it ends by itself and does not panic.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program, with an environment that does not depend on the caller's.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggrs"));
    command.env_remove("GGRS_CPU_ISA");
    command
}

/// What a run left.
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: i32,
}

/// Runs the program with nothing on stdin.
pub(crate) fn ggrs<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    ggrs_reading(b"", args)
}

/// Runs the program with these bytes on stdin.
pub(crate) fn ggrs_reading<S: AsRef<std::ffi::OsStr>>(
    stdin: &[u8],
    args: impl IntoIterator<Item = S>,
) -> Run {
    let mut command = program();
    command.args(args);
    run(command, stdin)
}

/// Runs a prepared command.
pub(crate) fn run(mut command: Command, stdin: &[u8]) -> Run {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the program starts");
    // The program may end without reading what it is given.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert!(!stderr.contains("panicked"), "{stderr}");
    Run {
        stdout: String::from_utf8(output.stdout).expect("results are UTF-8"),
        stderr,
        status: output.status.code().expect("it exits by itself"),
    }
}

impl Run {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }

    /// What it printed as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let run = self.succeeded();
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
    }

    /// It failed with this status, printed no result, and said each of these.
    #[track_caller]
    pub(crate) fn failed(&self, status: i32, said: &[&str]) {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for text in said {
            assert!(
                self.stderr.contains(text),
                "{text:?} is not said in: {}",
                self.stderr
            );
        }
        if status == 1 {
            let lines = self.stderr.lines().count();
            assert!(lines <= 5, "an error is a few lines: {}", self.stderr);
        }
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
