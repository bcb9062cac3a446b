//! Scaled dot-product attention: blocks of queries over blocks of keys with online softmax, so that memory does not grow
//! with the number of keys.
//!
//! `choose` cuts the work, `kernel` hands it to threads and puts the results together, `unit` computes a piece, `keys`
//! says which keys a query sees and where they lie.

mod choose;
mod kernel;
mod keys;
mod space;
mod unit;

pub(crate) use choose::attention;
