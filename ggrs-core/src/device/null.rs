//! The null device: accounts for everything and runs nothing. For planning without hardware, for measuring what the
//! run loop itself costs, and as the skeleton to copy for a new device.

use std::any::Any;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Backend, Bindings, Buffer, BufferSlice, BufferUse, Capture, CaptureState, Device, DeviceInfo,
    DeviceName, Executable, Fence, Generation, Limits, MemoryReport, Precision, Queue, Route,
    RouteRequest, WeightForm, WeightSource, WeightUse,
};
use crate::plan::{Place, Plan, Region, WeightSlot};
use crate::{BindError, DeviceError, ExecError, TensorDesc, Unsupported, ValueId};

/// The backend of the null device.
#[derive(Clone, Copy, Debug)]
pub struct NullBackend {
    /// Memory that its devices claim to have.
    pub memory_bytes: u64,
}

/// A device that runs nothing.
pub struct NullDevice {
    name: DeviceName,
    total: u64,
    bandwidth: Option<f64>,
    held: Arc<AtomicU64>,
}

impl Backend for NullBackend {
    fn name(&self) -> &'static str {
        "null"
    }

    fn enumerate(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        let name = DeviceName {
            backend: "null".to_owned(),
            index: 0,
            members: 1,
        };
        Ok(vec![NullDevice::new(name, self.memory_bytes).info()])
    }

    fn open(&self, name: &DeviceName) -> Result<Arc<dyn Device>, DeviceError> {
        Ok(Arc::new(NullDevice::new(name.clone(), self.memory_bytes)))
    }
}

impl NullDevice {
    /// A null device that claims to have `total` bytes.
    pub fn new(name: DeviceName, total: u64) -> Self {
        Self {
            name,
            total,
            bandwidth: None,
            held: Arc::default(),
        }
    }

    /// The same, claiming to read so many bytes per second.
    #[must_use]
    pub const fn with_bandwidth(mut self, bytes_per_second: f64) -> Self {
        self.bandwidth = Some(bytes_per_second);
        self
    }

    fn hold(
        &self,
        bytes: u64,
        usage: BufferUse,
        form: WeightForm,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        let free = self.memory().free;
        if bytes > free {
            let what = format!("{usage:?}").to_lowercase();
            return Err(DeviceError::OutOfMemory {
                device: self.name.to_string(),
                what,
                requested: bytes,
                free,
            });
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(Arc::new(NullBuffer {
            bytes,
            usage,
            form,
            generation: Generation::default(),
            held: Arc::clone(&self.held),
        }))
    }
}

impl Device for NullDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: self.name.clone(),
            hardware: "none".to_owned(),
            features: "runs nothing".to_owned(),
            memory: self.memory(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            alignment_bytes: 64,
            max_buffer_bytes: self.total,
        }
    }

    fn memory(&self) -> MemoryReport {
        let held = self.held.load(Ordering::Relaxed);
        MemoryReport {
            total: self.total,
            free: self.total.saturating_sub(held),
            held,
        }
    }

    fn bandwidth(&self) -> Option<f64> {
        self.bandwidth
    }

    fn route(&self, request: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        let kernel = Cow::Borrowed(request.op.spec().stem());
        Ok(Route {
            kernel,
            reason: Cow::Borrowed("runs nothing"),
            scratch_bytes: 0,
        })
    }

    fn weight_form(&self, _: &TensorDesc, _: &[WeightUse<'_>], _: Precision) -> WeightForm {
        WeightForm::Native
    }

    fn weight_bytes(&self, desc: &TensorDesc, _: WeightForm) -> u64 {
        desc.bytes().unwrap_or(0) as u64
    }

    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.hold(bytes, usage, WeightForm::Native)
    }

    fn load_weight(
        &self,
        slot: &WeightSlot,
        _: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.hold(slot.bytes, BufferUse::Weights, slot.form)
    }

    fn read_weight(&self, slot: &WeightSlot, _: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        Ok(vec![0; slot.desc.bytes().unwrap_or(0)])
    }

    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(NullQueue {
            device: self.name.to_string(),
            submitted: 0,
        }))
    }

    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError> {
        let bound = bindings.resolve(plan)?;
        let arena = self.alloc(plan.arenas.iter().sum(), BufferUse::Arena)?;
        let generations = bound.iter().map(|b| b.generation().now()).collect();
        Ok(Box::new(NullExecutable {
            plan: Arc::clone(plan),
            bound,
            generations,
            arena,
            capture: Capture::default(),
        }))
    }
}

struct NullBuffer {
    bytes: u64,
    usage: BufferUse,
    form: WeightForm,
    generation: Generation,
    held: Arc<AtomicU64>,
}

impl Drop for NullBuffer {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Buffer for NullBuffer {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn usage(&self) -> BufferUse {
        self.usage
    }

    fn form(&self) -> WeightForm {
        self.form
    }

    fn generation(&self) -> &Generation {
        &self.generation
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct NullQueue {
    device: String,
    submitted: u64,
}

impl Queue for NullQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        to.range(&self.device, 0, data.len() as u64).map(|_| ())
    }

    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError> {
        from.range(&self.device, 0, data.len() as u64)?;
        data.fill(0);
        Ok(())
    }

    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError> {
        to.range(&self.device, 0, from.bytes).map(|_| ())
    }

    fn fill(&mut self, _: &BufferSlice, _: u8) -> Result<(), DeviceError> {
        Ok(())
    }

    fn submit(
        &mut self,
        executable: &mut dyn Executable,
        steps: Range<usize>,
    ) -> Result<Fence, ExecError> {
        executable.run(steps)?;
        self.submitted += 1;
        Ok(Fence(self.submitted))
    }

    fn wait(&mut self, _: Fence) -> Result<(), ExecError> {
        Ok(())
    }
}

struct NullExecutable {
    plan: Arc<Plan>,
    bound: Vec<Arc<dyn Buffer>>,
    generations: Vec<u64>,
    arena: Arc<dyn Buffer>,
    /// The recording is the number of steps.
    capture: Capture<usize>,
}

impl NullExecutable {
    fn slice(&self, place: Place) -> Option<BufferSlice> {
        let buffer = match place.region {
            Region::Arena(_) => &self.arena,
            Region::Weight(i) => self.bound.get(i)?,
            Region::State(i) => self.bound.get(self.plan.weights.len() + i)?,
            Region::Constant(_) => return None,
        };
        Some(BufferSlice {
            buffer: Arc::clone(buffer),
            offset: place.offset,
            bytes: place.bytes,
        })
    }
}

impl Executable for NullExecutable {
    fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        self.slice(*self.plan.places.get(value.index())?)
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        let names = self
            .plan
            .weights
            .iter()
            .map(|w| &w.name)
            .chain(self.plan.states.iter().map(|s| &s.name));
        for ((buffer, bound), name) in self.bound.iter().zip(&self.generations).zip(names) {
            if buffer.generation().now() != *bound {
                return Err(ExecError::StaleBinding { name: name.clone() });
            }
        }
        let plan = &self.plan;
        self.capture.run(
            || {
                let steps = plan.steps.get(steps).unwrap_or_default();
                Ok(steps.iter().filter(|s| !s.is_exchange).count())
            },
            |steps| {
                std::hint::black_box(*steps);
                Ok(())
            },
        )
    }

    fn capture_state(&self) -> CaptureState {
        self.capture.state()
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.capture.arm()
    }

    fn release_capture(&mut self) {
        self.capture.release();
    }
}
