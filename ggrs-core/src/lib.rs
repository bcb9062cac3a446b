//! Tensors, ops, graphs, passes, plans and device traits of GGRS.
//!
//! A [`GraphBuilder`] checks every op as it is added; [`GraphBuilder::seal`] makes an immutable [`Graph`]; passes
//! rewrite it; a [`plan::Plan`] fixes device, kernel and memory of every node; a [`device::Device`] compiles the plan
//! to an executable. This crate contains no device code, no file I/O, no threads and no reads of the environment.

mod desc;
pub mod device;
mod dtype;
pub mod error;
mod graph;
mod ids;
mod layout;
pub mod ops;
pub mod passes;
pub mod plan;
mod real;
mod role;
pub mod sampling;
mod shape;
pub mod shard;

pub use desc::TensorDesc;
pub use dtype::{DType, DTypeKind};
pub use error::{
    BindError, DTypeSet, DeviceError, ExecError, GraphError, OpError, PartitionError, PlanError,
    ShardError, Unsupported,
};
pub use graph::{Graph, GraphBuilder, Node, Pages, Patch, PatchOp, PatchValue, Value, ValueInfo};
pub use ids::{DeviceIdx, NodeId, SymbolId, ValueId};
pub use layout::Layout;
pub use real::Real;
pub use role::{Cut, Link, Role, RoleKind, Stretch};
pub use shape::{Dim, MAX_RANK, Shape, Symbol};
pub use shard::{Sharding, Split};
