//! A fake device: what it says of itself and the buffers it makes. The CPU behind it computes.

use std::sync::Arc;

use ggrs_core::device::{
    Bindings, Buffer, BufferSlice, BufferUse, Device, DeviceInfo, DeviceName, Executable, Limits,
    MemoryReport, Precision, Queue, Route, RouteRequest, WeightForm, WeightSource, WeightUse,
};
use ggrs_core::plan::{Plan, StateSlot, WeightSlot};
use ggrs_core::{BindError, DeviceError, TensorDesc, Unsupported};

use super::audit::Transfer;
use super::buffer::FakeBuffer;
use super::executable::FakeExecutable;
use super::fault::Point;
use super::queue::FakeQueue;
use super::state::DeviceState;
use super::written::Written;

/// The name that users write.
pub(super) const BACKEND: &str = "fake";

/// An open fake device.
pub(super) struct FakeDevice {
    state: Arc<DeviceState>,
    is_masked: bool,
}

impl FakeDevice {
    pub(super) fn new(state: Arc<DeviceState>) -> Self {
        Self {
            state,
            is_masked: true,
        }
    }

    /// With all of the CPU's kernels under their own names.
    pub(super) fn unmasked(state: Arc<DeviceState>) -> Self {
        Self {
            state,
            is_masked: false,
        }
    }

    /// A buffer of memory that the account has; states are zeroed, all else is poisoned.
    fn make(
        &self,
        bytes: u64,
        usage: BufferUse,
        what: impl Fn() -> String,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        let state = &self.state;
        let hold = state.hold(Point::Alloc, bytes, what)?;
        let inner = state.inner.alloc(bytes, usage);
        let inner = inner.map_err(|error| state.own(error))?;
        let written = if usage == BufferUse::State {
            Written::whole(bytes)
        } else {
            state.poison(BufferSlice::whole(Arc::clone(&inner)))?;
            Written::default()
        };
        Ok(Arc::new(FakeBuffer::new(state, inner, written, hold)?))
    }
}

impl Device for FakeDevice {
    fn info(&self) -> DeviceInfo {
        let features = format!(
            "the CPU's kernels behind {} refusals, alignment {}",
            self.state.spec.mask.refuses.len(),
            self.state.spec.alignment_bytes
        );
        DeviceInfo {
            name: DeviceName {
                backend: BACKEND.to_owned(),
                index: self.state.index,
                members: 1,
            },
            hardware: "fake".to_owned(),
            features,
            memory: self.memory(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            alignment_bytes: self.state.spec.alignment_bytes,
            max_buffer_bytes: self.state.spec.max_buffer_bytes,
        }
    }

    fn memory(&self) -> MemoryReport {
        self.state.memory()
    }

    fn route(&self, request: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        let own = self.state.inner.route(request);
        if self.is_masked {
            self.state.spec.mask.route(request, own)
        } else {
            own
        }
    }

    fn weight_form(
        &self,
        desc: &TensorDesc,
        uses: &[WeightUse<'_>],
        precision: Precision,
    ) -> WeightForm {
        self.state.inner.weight_form(desc, uses, precision)
    }

    fn weight_bytes(&self, desc: &TensorDesc, form: WeightForm) -> u64 {
        self.state.inner.weight_bytes(desc, form)
    }

    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.make(bytes, usage, || format!("{usage:?}").to_lowercase())
    }

    fn alloc_state(&self, slot: &StateSlot) -> Result<Arc<dyn Buffer>, DeviceError> {
        let what = || format!("state \"{}\"", slot.name);
        self.make(slot.bytes, BufferUse::State, what)
    }

    fn load_weight(
        &self,
        slot: &WeightSlot,
        source: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        let state = &self.state;
        let what = || format!("weight \"{}\"", slot.name);
        let hold = state.hold(Point::LoadWeight, slot.bytes, what)?;
        let inner = state.inner.load_weight(slot, source);
        let inner = inner.map_err(|error| state.own(error))?;
        let written = Written::whole(inner.bytes());
        Ok(Arc::new(FakeBuffer::new(state, inner, written, hold)?))
    }

    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        let state = &self.state;
        let what = || format!("weight \"{}\"", slot.name);
        state.event(Point::Download, slot.bytes, what)?;
        let buffer = FakeBuffer::of(state, buffer)?;
        buffer.check_fresh(Transfer::ReadWeight)?;
        let read = state.inner.read_weight(slot, &**buffer.inner());
        read.map_err(|error| state.own(error))
    }

    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(FakeQueue::new(&self.state)?))
    }

    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError> {
        Ok(Box::new(FakeExecutable::new(&self.state, plan, bindings)?))
    }
}
