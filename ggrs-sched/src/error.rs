//! Why a graph cannot be placed.

use ggrs_core::{GraphError, PlanError, Unsupported};

/// Why a graph has no placement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedError {
    /// No device at all.
    #[error("there is no device to place the graph on: name at least one")]
    NoDevices,
    /// A pin or share that names a device that is not there.
    #[error("{origin}: there is no device {device}; the devices are {}", devices.join(", "))]
    NoSuchDevice {
        /// What asked for it, in the user's words.
        origin: String,
        /// The index.
        device: usize,
        /// The devices.
        devices: Vec<String>,
    },
    /// A pattern that cannot be read.
    #[error("\"{pattern}\" is not a pattern for tensor names: {why}")]
    Pattern {
        /// As the user wrote it.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pin that places nothing.
    #[error("{origin}: the model has no tensor that this names; tensors are called {}", some.join(", "))]
    EmptyPin {
        /// The pin in the user's words.
        origin: String,
        /// A few names that there are.
        some: Vec<String>,
    },
    /// Shares that cannot be used.
    #[error(
        "the shares {shares:?} do not suit {devices} devices: give one number of at least 0 for each, not all 0"
    )]
    Shares {
        /// The shares.
        shares: Vec<f64>,
        /// How many devices.
        devices: usize,
    },
    /// A tensor that must stay where it is, on a device without a kernel for the op that needs it there.
    #[error(
        "{op} \"{node}\" must run on {device}, where \"{leaf}\" was put ({origin}), but {device} cannot run it: {source}; put \"{leaf}\" elsewhere{}",
        elsewhere(able)
    )]
    Stuck {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// The state or weight that holds it there.
        leaf: String,
        /// Why the leaf is there.
        origin: String,
        /// The device.
        device: String,
        /// Devices that could run it.
        able: Vec<String>,
        /// Every kernel with its refusal.
        source: Unsupported,
    },
    /// Two states of one op on different devices.
    #[error(
        "{op} \"{node}\" uses \"{first}\" on {first_device} and \"{second}\" on {second_device}: keep both on one device"
    )]
    TornStates {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// A state.
        first: String,
        /// Where it is.
        first_device: String,
        /// Another state.
        second: String,
        /// Where that is.
        second_device: String,
    },
    /// No device runs an op.
    #[error("no device can run {op} \"{node}\": {}", refusals.iter().map(|(d, u)| format!("{d}: {u}")).collect::<Vec<_>>().join("; "))]
    Nowhere {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// Each device's refusals.
        refusals: Vec<(String, Unsupported)>,
    },
    /// A part of the graph that could not be built again for its device.
    #[error("the part of the graph for {device} cannot be built: {source}")]
    Graph {
        /// The device.
        device: String,
        /// What is wrong.
        source: GraphError,
    },
    /// A device has no plan for its part.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

fn elsewhere(able: &[String]) -> String {
    if able.is_empty() {
        ", no device here can run it".to_owned()
    } else {
        format!(" ({})", able.join(" or "))
    }
}
