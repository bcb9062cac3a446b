//! Groups of options that several commands share.

mod context;
mod device;
mod sampling;

pub(crate) use context::ContextOptions;
pub(crate) use device::DeviceOptions;
pub(crate) use sampling::SamplingOptions;
