//! One error enum per stage. Each variant names what the user knows and, where there is one, the way out.

mod device;
mod exec;
mod graph;
mod op;
mod partition;
mod plan;
mod shard;

pub use device::{DeviceError, Refusal, RefusalReason, Unsupported};
pub use exec::{ExecError, Fault};
pub use graph::{GraphError, OperandInfo};
pub use op::{DTypeSet, OpError};
pub use partition::PartitionError;
pub use plan::{BindError, PlanError};
pub use shard::ShardError;
