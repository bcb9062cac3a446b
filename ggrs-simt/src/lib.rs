//! What the GPU devices of GGRS share: kernel sources, routes, launches, weights in planes, the driver trait.

mod ahead;
mod buffer;
mod bulk;
mod bus;
pub mod compile;
mod context;
mod counters;
mod device;
mod disk_cache;
pub mod driver;
mod executable;
mod faults;
mod kernel;
mod kernels;
mod library;
mod pack;
mod params;
mod peers;
mod places;
mod planes;
mod queue;
mod roof;
mod routes;
mod source;
mod stages;
mod timing;
mod turns;
mod weights;
mod work;

pub use ahead::{Ahead, compile_ahead, kernel_pack};
pub use device::SimtDevice;
pub use disk_cache::VARIABLE as KERNEL_CACHE_VARIABLE;
pub use kernel::ModuleKey;
pub use roof::MatrixRoof;
pub use routes::modules;
pub use source::source;
