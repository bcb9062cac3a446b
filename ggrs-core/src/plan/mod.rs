//! Plans: pure data that fixes, for every node, the device, the kernel and the memory. Equal inputs give equal plans.
//!
//! Nothing here allocates device memory or looks at a clock, an address or the order of a hash map.

mod arena;
mod explain;
mod liveness;
mod members;
mod planner;
mod slots;

use std::sync::Arc;

pub use members::{DeviceBytes, Shards};
pub use planner::{PlanOptions, plan, plan_one};

use crate::device::{Precision, Route, WeightForm};
use crate::error::Fault;
use crate::passes::PassReport;
use crate::{DeviceError, DeviceIdx, ExecError, Graph, NodeId, Sharding, TensorDesc, ValueId};

/// What will run, where, with which kernel, in which memory: its parts can be read and not changed.
///
/// Made only by [`plan`], so that devices may rely on it: places lie inside their memory, and values that live at the
/// same time do not share any.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan(PlanParts);

impl std::ops::Deref for Plan {
    type Target = PlanParts;

    fn deref(&self) -> &PlanParts {
        &self.0
    }
}

/// The parts of a [`Plan`].
#[derive(Clone, Debug, PartialEq)]
pub struct PlanParts {
    /// The graph after the passes; ids in the plan are its ids.
    pub graph: Arc<Graph>,
    /// Exact or fast.
    pub precision: Precision,
    /// The devices, as the user names them.
    pub devices: Vec<String>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// For each value, where its storage lies; views share their storage's place.
    pub places: Vec<Place>,
    /// For each device, bytes of working memory.
    pub arenas: Vec<u64>,
    /// Weights to load.
    pub weights: Vec<WeightSlot>,
    /// States to allocate.
    pub states: Vec<StateSlot>,
    /// Inputs to write before a run.
    pub inputs: Vec<IoSlot>,
    /// Outputs to read after a run.
    pub outputs: Vec<IoSlot>,
    /// Constants to upload once: the node that holds the data.
    pub constants: Vec<ConstantSlot>,
    /// What the passes did.
    pub passes: Vec<PassReport>,
    /// If the device is made of several: each member's own plan.
    pub members: Vec<Arc<Plan>>,
    /// If the device is made of several: for each value of the graph, how it lies over the members.
    pub shardings: Vec<Sharding>,
    /// If the device is made of several: why each collective is there, by its node in the members' graphs.
    pub collectives: Vec<(String, String)>,
}

/// One node on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// Where it runs.
    pub device: DeviceIdx,
    /// With which kernel, and why.
    pub route: Route,
    /// Does it move data between devices? Then the device does not run it: whoever runs the plan does, between two
    /// runs of steps.
    pub is_exchange: bool,
    /// Offset of the kernel's working memory in the device's arena.
    pub scratch_offset: u64,
}

/// Which memory a storage lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Region {
    /// A device's arena.
    Arena(DeviceIdx),
    /// A weight, by its position in the plan.
    Weight(usize),
    /// A state, by its position in the plan.
    State(usize),
    /// A constant, by its position in the plan.
    Constant(usize),
}

/// Where a value's storage lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The memory.
    pub region: Region,
    /// Bytes from its start.
    pub offset: u64,
    /// Bytes of the storage.
    pub bytes: u64,
}

/// A weight and the form it is kept in.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightSlot {
    /// Its name in the model file.
    pub name: String,
    /// The leaf.
    pub value: ValueId,
    /// What it is.
    pub desc: TensorDesc,
    /// How the device keeps it.
    pub form: WeightForm,
    /// Bytes in that form.
    pub bytes: u64,
    /// Where it is kept.
    pub device: DeviceIdx,
    /// If the device is made of several: how it lies over the members, and their own slots.
    pub shards: Option<Shards<WeightSlot>>,
}

/// A state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSlot {
    /// Its name.
    pub name: String,
    /// The leaf.
    pub value: ValueId,
    /// What it is.
    pub desc: TensorDesc,
    /// Bytes.
    pub bytes: u64,
    /// Where it is kept.
    pub device: DeviceIdx,
    /// If the device is made of several: how it lies over the members, and their own slots.
    pub shards: Option<Shards<StateSlot>>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct IoSlot {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: ValueId,
    /// What it is; always contiguous.
    pub desc: TensorDesc,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantSlot {
    /// The leaf.
    pub value: ValueId,
    /// The node that holds the data.
    pub node: NodeId,
    /// Bytes.
    pub bytes: u64,
}

impl Plan {
    /// Where a value's storage lies.
    ///
    /// # Panics
    /// If the id is not of this plan's graph.
    pub fn place(&self, value: ValueId) -> Place {
        self.places[value.index()]
    }

    /// The error of bad data that the kernel of the step at `position` found on `device`.
    pub fn fault(&self, device: &str, position: usize, fault: Fault) -> ExecError {
        let Some(step) = self.steps.get(position) else {
            let (device, cause) = (device.to_owned(), fault.to_string());
            return DeviceError::Lost { device, cause }.into();
        };
        let node = self.graph.node(step.node);
        ExecError::Fault {
            step: position,
            node_id: step.node,
            node: node.name.to_string(),
            op: node.op.spec().stem(),
            fault,
        }
    }

    /// Floating-point operations and bytes of all steps.
    pub fn cost(&self) -> crate::ops::Cost {
        let mut total = crate::ops::Cost::default();
        for step in &self.steps {
            let node = self.graph.node(step.node);
            let (ins, outs) = self.graph.io(node);
            total.flops += node.op.spec().flops(&ins, &outs);
            total.bytes += node.op.spec().bytes(&ins, &outs);
        }
        total
    }
}
