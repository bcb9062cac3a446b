//! Memory of a fake device: CPU memory that only this device takes, with a record of what was written.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ggrs_core::DeviceError;
use ggrs_core::device::{Buffer, BufferSlice, BufferUse, Generation, WeightForm};

use super::account::Hold;
use super::audit::{Finding, Transfer};
use super::state::DeviceState;
use super::written::Written;

/// A buffer.
pub(super) struct FakeBuffer {
    inner: Arc<dyn Buffer>,
    owner: Arc<DeviceState>,
    /// The device's life in which it was made.
    life: u64,
    /// The generation in which it was made.
    born: u64,
    written: Mutex<Written>,
    _hold: Hold,
}

impl FakeBuffer {
    /// A buffer over memory of the inner device.
    pub(super) fn new(
        owner: &Arc<DeviceState>,
        inner: Arc<dyn Buffer>,
        written: Written,
        hold: Hold,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            life: owner.alive()?,
            born: inner.generation().now(),
            inner,
            owner: Arc::clone(owner),
            written: Mutex::new(written),
            _hold: hold,
        })
    }

    /// A buffer as one of this device, in its present life.
    pub(super) fn of<'a>(
        owner: &Arc<DeviceState>,
        buffer: &'a dyn Buffer,
    ) -> Result<&'a Self, DeviceError> {
        let foreign = |name: &str| DeviceError::ForeignBuffer {
            device: owner.name.clone(),
            owner: name.to_owned(),
        };
        let fake = buffer.as_any().downcast_ref::<Self>();
        let fake = fake.ok_or_else(|| foreign("another device"))?;
        if !Arc::ptr_eq(&fake.owner, owner) {
            return Err(foreign(&fake.owner.name));
        }
        owner.check_life(fake.life)?;
        Ok(fake)
    }

    /// A slice's first `bytes` bytes for a transfer: the buffer, their place in it, and the inner device's slice.
    pub(super) fn locate<'a>(
        owner: &Arc<DeviceState>,
        slice: &'a BufferSlice,
        bytes: u64,
        transfer: Transfer,
    ) -> Result<(&'a Self, Range<u64>, BufferSlice), DeviceError> {
        let buffer = Self::of(owner, &*slice.buffer)?;
        buffer.check_fresh(transfer)?;
        let part = slice.range(&owner.name, 0, bytes)?;
        let inner = BufferSlice::whole(Arc::clone(&buffer.inner));
        let inner = inner.range(&owner.name, part.offset, part.bytes)?;
        Ok((buffer, part.offset..part.offset + part.bytes, inner))
    }

    /// Transfers are for buffers that were not released.
    pub(super) fn check_fresh(&self, transfer: Transfer) -> Result<(), DeviceError> {
        let (expected, found) = (self.born, self.generation().now());
        if expected == found {
            return Ok(());
        }
        self.owner.report(Finding::StaleTransfer {
            device: self.owner.name.clone(),
            transfer,
            releases: found - expected,
        });
        Err(DeviceError::StaleBuffer {
            device: self.owner.name.clone(),
            expected,
            found,
        })
    }

    /// The device it belongs to.
    pub(super) const fn owner(&self) -> &Arc<DeviceState> {
        &self.owner
    }

    /// The inner device's buffer.
    pub(super) const fn inner(&self) -> &Arc<dyn Buffer> {
        &self.inner
    }

    /// What was written.
    pub(super) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer for FakeBuffer {
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn usage(&self) -> BufferUse {
        self.inner.usage()
    }

    fn form(&self) -> WeightForm {
        self.inner.form()
    }

    /// The inner buffer's, so that releasing one releases the other.
    fn generation(&self) -> &Generation {
        self.inner.generation()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
