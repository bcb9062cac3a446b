//! The queue of a device made of several: transfers of any byte range of any tensor, and runs. Each is done when its
//! call returns. It must not know plans.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{BufferSlice, Executable, Fence, Queue};
use ggrs_core::{DeviceError, ExecError};

use crate::buffer::{Identity, MetaBuffer, locate};
use crate::transfer;

/// Bytes of a member's part that are gathered for one transfer.
const STAGING_BYTES: usize = 256 << 10;

/// A queue over the members' queues.
pub(crate) struct MetaQueue {
    device: Arc<Identity>,
    members: Vec<Box<dyn Queue>>,
    staging: Vec<u8>,
    submitted: u64,
}

impl MetaQueue {
    pub(crate) fn new(device: &Arc<Identity>, members: Vec<Box<dyn Queue>>) -> Self {
        Self {
            device: Arc::clone(device),
            members,
            staging: vec![0; STAGING_BYTES],
            submitted: 0,
        }
    }

    /// Copies through the host.
    fn copy_staged(
        &mut self,
        (source, range): (&MetaBuffer, Range<usize>),
        (target, start): (&MetaBuffer, usize),
    ) -> Result<(), ExecError> {
        source.check_held(&range)?;
        // All is read before anything is written: the ranges may overlap.
        let mut data = Vec::new();
        let reserved = data.try_reserve_exact(range.len());
        reserved.map_err(|_| DeviceError::OutOfMemory {
            device: self.device.name.clone(),
            what: format!("copying \"{}\" through the host", source.tensor),
            requested: range.len() as u64,
            free: 0,
        })?;
        data.resize(range.len(), 0);
        let (queues, staging) = (&mut self.members, &mut self.staging);
        transfer::read(source.sharded(), range.start, &mut data, queues, staging)?;
        Ok(transfer::write(
            target.sharded(),
            start,
            &data,
            queues,
            staging,
        )?)
    }
}

impl Queue for MetaQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        let to = to.range(&self.device.name, 0, data.len() as u64)?;
        let (buffer, range) = locate(&self.device, &to)?;
        let (queues, staging) = (&mut self.members, &mut self.staging);
        transfer::write(buffer.sharded(), range.start, data, queues, staging)
    }

    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError> {
        let from = from.range(&self.device.name, 0, data.len() as u64)?;
        let (buffer, range) = locate(&self.device, &from)?;
        buffer.check_held(&range)?;
        let (queues, staging) = (&mut self.members, &mut self.staging);
        transfer::read(buffer.sharded(), range.start, data, queues, staging)
    }

    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError> {
        let to = to.range(&self.device.name, 0, from.bytes)?;
        let (source, range) = locate(&self.device, from)?;
        let (target, place) = locate(&self.device, &to)?;
        // Devices need not know how to copy a range onto part of itself.
        let overlap =
            std::ptr::eq(source, target) && range.start < place.end && place.start < range.end;
        if !overlap
            && source
                .map()
                .lies_alike(range.start, target.map(), place.start)
        {
            let (from, to) = (source.sharded(), target.sharded());
            return transfer::copy(from, &range, to, place.start, &mut self.members);
        }
        let copied = self.copy_staged((source, range), (target, place.start));
        copied.map_err(|error| match error {
            ExecError::Device(error) => error,
            // Downloads of other devices may report what a run before left; here every run has been waited for.
            other => DeviceError::Lost {
                device: self.device.name.clone(),
                cause: other.to_string(),
            },
        })
    }

    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError> {
        let (buffer, range) = locate(&self.device, to)?;
        transfer::fill(buffer.sharded(), range, byte, &mut self.members)
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
