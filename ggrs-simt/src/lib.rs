//! What the GPU devices of GGRS share: kernel sources, routes, launches, weights in planes, the driver trait.

pub mod compile;
pub mod driver;
mod kernel;
mod kernels;
mod params;
mod planes;
mod routes;
mod source;

pub use kernel::ModuleKey;
pub use routes::modules;
pub use source::source;
