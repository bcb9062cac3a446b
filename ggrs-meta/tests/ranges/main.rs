//! Byte ranges and strided views of sharded tensors, against the tensor as it would be if nobody had cut it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod case;
mod map;
mod transfers;
