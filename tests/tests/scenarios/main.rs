//! What fails in the peer must not fail here: one test for every class of `reference/peer-failures.md`, named after the
//! numbers of the public reports it answers. A scenario passes if GGRS works, or refuses with an error that says what
//! matters, before anything runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod joined;
mod placed_graph;
mod small_graphs;

mod crossings;
mod exchanges;
mod kernels;
mod lifetimes;
mod limits;
mod mixed_placements;
mod sessions;
mod shared_cache;
mod split_heads;
mod split_memory;
mod split_weights;
mod unreadable_states;
