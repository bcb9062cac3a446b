//! The device made of CPU devices: the same results as a naive product, weights read back byte for byte, states and
//! values as byte ranges, and what its members' failures become.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod failures;
mod faulty;
mod handovers;
mod memory;
mod mlp;
mod results;
