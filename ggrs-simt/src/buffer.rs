//! Buffers: device memory with its account. It must not know plans or kernels.

use std::any::Any;
use std::sync::Arc;

use ggrs_core::DeviceError;
use ggrs_core::device::{Buffer, BufferSlice, BufferUse, Generation, WeightForm};

use crate::context::Context;
use crate::driver::DevicePtr;

/// Memory of a device.
pub(crate) struct SimtBuffer {
    ptr: DevicePtr,
    bytes: u64,
    usage: BufferUse,
    form: WeightForm,
    generation: Generation,
    owner: Arc<Context>,
}

impl SimtBuffer {
    /// Memory, zeroed if it is for a state; `what` is for the message if there is none.
    pub(crate) fn new(
        owner: &Arc<Context>,
        bytes: u64,
        usage: BufferUse,
        form: WeightForm,
        what: &str,
    ) -> Result<Self, DeviceError> {
        let buffer = Self {
            ptr: owner.alloc(bytes, what)?,
            bytes,
            usage,
            form,
            generation: Generation::default(),
            owner: Arc::clone(owner),
        };
        if usage == BufferUse::State {
            owner.fill(&mut owner.gate(), buffer.ptr, 0, bytes)?;
        }
        Ok(buffer)
    }

    /// A buffer as one of this device.
    pub(crate) fn of<'a>(
        owner: &Arc<Context>,
        buffer: &'a dyn Buffer,
    ) -> Result<&'a Self, DeviceError> {
        let foreign = |name: &str| DeviceError::ForeignBuffer {
            device: owner.name.clone(),
            owner: name.to_owned(),
        };
        let mine = buffer
            .as_any()
            .downcast_ref::<Self>()
            .ok_or_else(|| foreign("another device"))?;
        if Arc::ptr_eq(&mine.owner, owner) {
            Ok(mine)
        } else {
            Err(foreign(&mine.owner.name))
        }
    }

    /// Where it starts.
    pub(crate) const fn start(&self) -> DevicePtr {
        self.ptr
    }
}

impl Buffer for SimtBuffer {
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

impl Drop for SimtBuffer {
    fn drop(&mut self) {
        self.owner.free(self.ptr, self.bytes);
    }
}

/// Where a slice starts, checked to be inside its buffer of this device.
pub(crate) fn locate(owner: &Arc<Context>, slice: &BufferSlice) -> Result<DevicePtr, DeviceError> {
    let buffer = SimtBuffer::of(owner, &*slice.buffer)?;
    let size = usize::try_from(buffer.bytes).unwrap_or(usize::MAX);
    slice.within(&owner.name, size)?;
    Ok(buffer.ptr.plus(slice.offset))
}
