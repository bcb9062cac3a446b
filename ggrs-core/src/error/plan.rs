//! Errors of planning and of binding memory to a plan.

use crate::{DeviceError, GraphError, PartitionError, Sharding, TensorDesc, Unsupported};

/// Why a graph has no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A device has no kernel for a node.
    #[error("{op} \"{node}\" cannot run on {device} ({}): {source}", operands.join(", "))]
    Unsupported {
        /// The op's stem.
        op: &'static str,
        /// The node's name.
        node: String,
        /// The device.
        device: String,
        /// The operands as the device sees them.
        operands: Vec<String>,
        /// Every kernel tried, with its reason.
        source: Unsupported,
    },
    /// The arena would be larger than the device allows.
    #[error("the plan needs {need} bytes of working memory on {device}, it has {have}; largest: {}; use fewer tokens per step", largest.join(", "))]
    Arena {
        /// The device.
        device: String,
        /// Bytes needed.
        need: u64,
        /// Bytes there are.
        have: u64,
        /// The largest values.
        largest: Vec<String>,
    },
    /// A symbolic graph was planned.
    #[error("the graph still has symbols ({}): bind it first", symbols.join(", "))]
    Symbolic {
        /// The open symbols.
        symbols: Vec<&'static str>,
    },
    /// A pass broke the graph.
    #[error("pass \"{pass}\" made an invalid graph: {source}")]
    Pass {
        /// The pass.
        pass: &'static str,
        /// What is wrong with it.
        source: GraphError,
    },
    /// Passes never came to rest.
    #[error(
        "the passes did not come to rest after {rounds} rounds; the last to change the graph was \"{pass}\""
    )]
    NoFixpoint {
        /// Rounds tried.
        rounds: usize,
        /// The last pass that changed something.
        pass: &'static str,
    },
    /// The graph cannot be split over the members of a device made of several.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A member of a device made of several has no plan for its part of the graph.
    #[error("{member}: {source}")]
    Member {
        /// The member, by its number and name.
        member: String,
        /// Why.
        source: Box<Self>,
    },
    /// Members that do not meet in the same exchanges.
    #[error(
        "the parts of the graph do not fit together: exchange {at} is {first_op} on {first} and {second_op} on {second}; this is a bug in the partition, please report it"
    )]
    Disagree {
        /// Which exchange, in order.
        at: usize,
        /// A member.
        first: String,
        /// What it does there.
        first_op: String,
        /// Another member.
        second: String,
        /// What that one does.
        second_op: String,
    },
}

/// Why memory does not fit a plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A weight or state without a buffer.
    #[error("{kind} \"{name}\" ({desc}) has no buffer")]
    Missing {
        /// "weight" or "state".
        kind: &'static str,
        /// The leaf.
        name: String,
        /// Its description.
        desc: TensorDesc,
    },
    /// A buffer of the wrong size.
    #[error("{kind} \"{name}\" ({desc}) needs {expected} bytes, its buffer has {got}")]
    Size {
        /// "weight" or "state".
        kind: &'static str,
        /// The leaf.
        name: String,
        /// Its description.
        desc: TensorDesc,
        /// Bytes needed.
        expected: u64,
        /// Bytes of the buffer.
        got: u64,
    },
    /// One buffer for two states.
    #[error("states \"{first}\" and \"{second}\" are bound to one buffer; give each its own")]
    Shared {
        /// A state.
        first: String,
        /// Another one over the same memory.
        second: String,
    },
    /// A weight kept in another form than the plan's kernels read.
    #[error("weight \"{name}\" is kept {found}, the plan wants it {wanted}; load it for this plan")]
    Form {
        /// The weight.
        name: String,
        /// Form of the buffer.
        found: &'static str,
        /// Form of the plan.
        wanted: &'static str,
    },
    /// A buffer that lies over the members in another way than the plan's.
    #[error(
        "{kind} \"{name}\" lies over the members as {found}, the plan wants it {wanted}; load it for this plan"
    )]
    Sharding {
        /// "weight" or "state".
        kind: &'static str,
        /// The leaf.
        name: String,
        /// How the buffer lies.
        found: Sharding,
        /// How the plan has it.
        wanted: Sharding,
    },
    /// A member of a device made of several refused its part.
    #[error("{member}: {source}")]
    Member {
        /// The member, by its number and name.
        member: String,
        /// Why.
        source: Box<Self>,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
