//! What a device is to the rest of GGRS: small object-safe traits.
//!
//! The contract, stated once: a plan that reaches a device is valid. A device validates nothing that core has
//! validated; it returns errors only for what the caller could not foresee (memory, a lost device, bad data in a
//! tensor). Asked to run what it never routed, it is in front of a bug.

mod bound;
mod buffer;
mod capture;
mod name;
pub mod null;
mod registry;
mod route;
mod runner;

pub use bound::BoundMemory;
pub use buffer::{Buffer, BufferSlice, BufferUse, Generation, WeightForm, WeightSource};
pub use capture::{Capture, CaptureState};
pub use name::DeviceName;
pub use registry::Registry;
pub use route::{Fusion, FusionRequest, Precision, Route, RouteRequest, WeightUse};
pub use runner::Runner;

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::plan::{Plan, PlanOptions, PlanParts, StateSlot, WeightSlot};
use crate::{
    BindError, DeviceError, ExecError, Graph, PlanError, TensorDesc, Unsupported, ValueId,
};

/// A family of devices: the CPU, CUDA, Vulkan.
pub trait Backend: Send + Sync {
    /// The name that users write before the colon.
    fn name(&self) -> &'static str;

    /// The devices there are. A missing driver is an empty list, not an error.
    fn enumerate(&self) -> Result<Vec<DeviceInfo>, DeviceError>;

    /// Opens a device.
    fn open(&self, name: &DeviceName) -> Result<Arc<dyn Device>, DeviceError>;
}

/// What is known of a device without opening it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DeviceInfo {
    /// As the user writes it.
    pub name: DeviceName,
    /// What the hardware calls itself.
    pub hardware: String,
    /// What it can do, in the words of its kind: "AVX-512 VNNI, 2 threads".
    pub features: String,
    /// Its memory.
    pub memory: MemoryReport,
}

/// Memory of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryReport {
    /// All there is.
    pub total: u64,
    /// What can be had now.
    pub free: u64,
    /// What GGRS holds through this device.
    pub held: u64,
}

/// Limits that planning must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    /// Offsets of values are multiples of this; a power of two.
    pub alignment_bytes: u64,
    /// The largest single buffer.
    pub max_buffer_bytes: u64,
}

/// An open device.
pub trait Device: Send + Sync {
    /// What it is, with its memory now.
    fn info(&self) -> DeviceInfo;

    /// Its name as the user writes it: what [`Device::info`] says, without looking at memory.
    fn name(&self) -> DeviceName {
        self.info().name
    }

    /// What planning must respect.
    fn limits(&self) -> Limits;

    /// Its memory now.
    fn memory(&self) -> MemoryReport;

    /// Bytes per second that its memory gives to kernels, if it knows: decoding goes by that.
    fn bandwidth(&self) -> Option<f64> {
        None
    }

    /// The kernel for an op on exactly these operands, or every candidate with its refusal.
    fn route(&self, request: &RouteRequest<'_>) -> Result<Route, Unsupported>;

    /// Neighbouring steps that the device runs as one, in order and apart from each other. A pure function of the request:
    /// compiling asks again and must find the same.
    fn fusions(&self, request: &FusionRequest<'_>) -> Vec<Fusion> {
        let _ = request;
        Vec::new()
    }

    /// The form in which the device wants to keep a weight that these ops read.
    fn weight_form(
        &self,
        desc: &TensorDesc,
        uses: &[WeightUse<'_>],
        precision: Precision,
    ) -> WeightForm;

    /// Bytes that a weight of this form takes.
    fn weight_bytes(&self, desc: &TensorDesc, form: WeightForm) -> u64;

    /// Plans a bound graph. Asked through [`crate::plan::plan`], which has run the passes; devices made of several
    /// override it.
    fn plan(&self, graph: &Arc<Graph>, options: &PlanOptions) -> Result<PlanParts, PlanError> {
        crate::plan::plan_one(graph, self, options)
    }

    /// Memory of `bytes` bytes. States are zeroed; what else is in it before it is written is not to be relied on.
    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError>;

    /// Memory for a state of a plan, zeroed.
    fn alloc_state(&self, slot: &StateSlot) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.alloc(slot.bytes, BufferUse::State)
    }

    /// A weight in the plan's form. The source is in the file's layout.
    fn load_weight(
        &self,
        slot: &WeightSlot,
        source: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError>;

    /// Seconds that so many bytes take from host memory that the device reads at full speed, measured now: what loading
    /// is compared with. `None` where nothing is copied, or nobody can tell.
    ///
    /// # Errors
    /// The device failed, or there is no memory for the copy.
    fn time_upload(&self, bytes: u64) -> Result<Option<f64>, DeviceError> {
        let _ = bytes;
        Ok(None)
    }

    /// The original bytes of a weight, whatever its form.
    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError>;

    /// The device's own type, for devices that know each other.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Makes the device a member, number `rank`, of a device made of `members`, so that it can route their collectives
    /// itself. What it gives is kept as long as they belong together; `None` leaves collectives to the others.
    ///
    /// # Errors
    /// It is a member of another device already, or has no memory for the exchange.
    fn link(
        &self,
        rank: usize,
        members: &[Arc<dyn Device>],
    ) -> Result<Option<Arc<dyn Any + Send + Sync>>, DeviceError> {
        let _ = (rank, members);
        Ok(None)
    }

    /// A queue for transfers and runs.
    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError>;

    /// A plan with memory bound to it.
    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError>;
}

/// Buffers for a plan's weights and states, by name.
#[derive(Clone, Default)]
pub struct Bindings {
    buffers: HashMap<String, Arc<dyn Buffer>>,
}

impl Bindings {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a buffer to the weight or state of this name.
    pub fn insert(&mut self, name: impl Into<String>, buffer: Arc<dyn Buffer>) {
        self.buffers.insert(name.into(), buffer);
    }

    /// The buffer of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Buffer>> {
        self.buffers.get(name)
    }

    /// The buffers of a plan's weights and states in the plan's order, each checked for size and form.
    pub fn resolve(&self, plan: &Plan) -> Result<Vec<Arc<dyn Buffer>>, BindError> {
        let find = |kind, name: &str, desc: &TensorDesc, expected: u64| {
            let Some(buffer) = self.buffers.get(name) else {
                return Err(BindError::Missing {
                    kind,
                    name: name.to_owned(),
                    desc: desc.clone(),
                });
            };
            if buffer.bytes() < expected {
                let (name, desc, got) = (name.to_owned(), desc.clone(), buffer.bytes());
                return Err(BindError::Size {
                    kind,
                    name,
                    desc,
                    expected,
                    got,
                });
            }
            Ok(Arc::clone(buffer))
        };
        let mut buffers = Vec::with_capacity(plan.weights.len() + plan.states.len());
        for w in &plan.weights {
            let buffer = find("weight", &w.name, &w.desc, w.bytes)?;
            if buffer.form() != w.form {
                let (found, wanted) = (buffer.form().name(), w.form.name());
                return Err(BindError::Form {
                    name: w.name.clone(),
                    found,
                    wanted,
                });
            }
            buffers.push(buffer);
        }
        for s in &plan.states {
            let buffer = find("state", &s.name, &s.desc, s.bytes)?;
            let earlier = plan
                .states
                .iter()
                .zip(buffers.iter().skip(plan.weights.len()));
            if let Some((first, _)) = earlier.into_iter().find(|(_, b)| Arc::ptr_eq(b, &buffer)) {
                let (first, second) = (first.name.clone(), s.name.clone());
                return Err(BindError::Shared { first, second });
            }
            buffers.push(buffer);
        }
        Ok(buffers)
    }
}

/// Transfers and runs in order.
pub trait Queue: Send {
    /// Copies host bytes to a buffer.
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError>;

    /// Copies a buffer's bytes to the host; waits for what was submitted before.
    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError>;

    /// Copies between buffers of the same device.
    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError>;

    /// Sets every byte.
    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError>;

    /// Starts a run of some steps of the executable's plan.
    fn submit(
        &mut self,
        executable: &mut dyn Executable,
        steps: Range<usize>,
    ) -> Result<Fence, ExecError>;

    /// Waits until everything up to the fence is done; reports what went wrong in it.
    fn wait(&mut self, fence: Fence) -> Result<(), ExecError>;
}

/// A point in a queue's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// A plan with memory bound to it, ready to run any number of times.
pub trait Executable: Send {
    /// The plan.
    fn plan(&self) -> &Arc<Plan>;

    /// Where the bytes of a contiguous value lie; `None` if the value is strided or not of this plan.
    fn value(&self, value: ValueId) -> Option<BufferSlice>;

    /// Runs these steps of the plan once; no exchange with another device may be among them. Called by the device's
    /// own queue.
    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError>;

    /// Where capture stands.
    fn capture_state(&self) -> CaptureState;

    /// Records the next run, so that later runs replay it.
    fn capture(&mut self) -> Result<(), ExecError>;

    /// Drops a recording; runs are eager again.
    fn release_capture(&mut self);

    /// The kernels of a run that the device can time by themselves, in order of their names; none where it cannot tell.
    fn kernels(&self) -> Vec<String> {
        Vec::new()
    }

    /// What one of [`Executable::kernels`] takes in a run: all its launches, one after another and apart from the others,
    /// timed by the device. Values are undefined afterwards. `None` for a kernel that has no launches.
    ///
    /// # Errors
    /// The device failed.
    fn time_kernel(&mut self, kernel: &str) -> Result<Option<KernelTime>, ExecError> {
        let _ = kernel;
        Ok(None)
    }

    /// Where a run's time goes: what each kernel takes, the slowest first. Values are undefined afterwards.
    ///
    /// # Errors
    /// The device failed.
    fn profile(&mut self) -> Result<Vec<KernelTime>, ExecError> {
        let mut times = Vec::new();
        for kernel in self.kernels() {
            times.extend(self.time_kernel(&kernel)?);
        }
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(times)
    }
}

/// Time that a kernel takes in a run.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct KernelTime {
    /// The kernel, as the plan's routes name it.
    pub kernel: String,
    /// How many steps or stages it runs.
    pub n_times: usize,
    /// Launches of all of them.
    pub n_launches: usize,
    /// Seconds of all of them.
    pub seconds: f64,
}
