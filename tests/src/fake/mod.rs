//! Fake devices: any number of logical devices over CPU memory, which compute with the CPU's own kernels and can
//! refuse, run out, fail and be lost on demand, while an audit watches how they are used.

mod access;
mod account;
mod audit;
mod buffer;
mod cause;
mod device;
mod executable;
mod fault;
mod mask;
mod queue;
mod spec;
mod state;
mod transport;
mod world;
mod written;

pub use audit::{AuditFailure, Finding, Held, Transfer};
pub use cause::device_error;
pub use fault::{Fault, FaultKind, Point, Tally};
pub use mask::{FastKernel, Mask, Refuse};
pub use spec::FakeSpec;
pub use transport::FaultyTransport;
pub use world::FakeWorld;
