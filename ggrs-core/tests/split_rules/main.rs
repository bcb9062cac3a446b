//! The split rules of every op family as tables: how operands lie -> how they have to lie -> how results then lie.
//!
//! That a partitioned graph computes what the whole one does is the business of the conformance suite; here the rules
//! are read, with uneven, empty, interleaved and overlapping parts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod case;
mod elementwise;
mod heads;
mod moves;
mod products;
