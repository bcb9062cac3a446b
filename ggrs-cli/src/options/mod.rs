//! Groups of options that several commands share.

mod context;
mod device;
mod fit;
mod placement;
mod sampling;
mod state;

pub(crate) use context::ContextOptions;
pub(crate) use device::DeviceOptions;
pub(crate) use fit::FitArgs;
pub(crate) use placement::PlacementArgs;
pub(crate) use sampling::SamplingOptions;
pub(crate) use state::StateOptions;
