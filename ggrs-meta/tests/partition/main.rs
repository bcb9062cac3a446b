//! Partitions: the members' graphs together do what the whole graph does, with no more communication than needed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

mod conversions;
mod equivalence;
mod lockstep;
mod model;
mod recurrent;
mod refusals;
mod structure;
