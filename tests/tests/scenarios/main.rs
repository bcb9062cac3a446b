//! What fails in the peer, llama.cpp's tensor split and scheduler, must not fail here: one test or more for every class
//! of failure, named after the public issues and pull requests that show it (`i22307` is number 22307), or after a seed:
//! 1 saving a split state, 2 a view of chosen experts, 3 a missing attention kernel, 4 a cache on another device.
//!
//! A scenario passes if GGRS works, or if it refuses, before anything runs, with an error that says what matters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

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
