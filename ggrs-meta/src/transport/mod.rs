//! How the members of a device exchange data: one trait, one file per way.

mod exchange;
mod host;

pub use exchange::{Exchange, Transport};
pub use host::HostTransport;
