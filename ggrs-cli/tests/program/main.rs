//! The program as its users meet it: run as a process, judged by what it prints, writes and exits with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod answers;
mod bad_files;
mod bad_requests;
mod broken_model;
mod files;
mod measuring;
mod plan;
mod process;
#[cfg(feature = "cuda")]
mod simulated;
