//! The report of a plan as people and programs get it: text and JSON against golden files, the page in a browser.
//! `GGRS_BLESS=1` rewrites the golden files; without a browser that is told, and `GGRS_REQUIRE=browser` makes it fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod browser;
mod golden;
mod page;
mod planned;
mod synthetic;
