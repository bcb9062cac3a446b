//! What fails in the peer must not fail here: one test for every class of `reference/peer-failures.md`, named after the
//! numbers of the public reports it answers. A scenario passes if GGRS works, or refuses with an error that says what
//! matters, before anything runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod placed_graph;
mod small_graphs;

mod crossings;
mod kernels;
mod lifetimes;
mod limits;
mod shared_cache;
mod unreadable_states;
