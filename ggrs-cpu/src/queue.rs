//! The queue: transfers and runs, each done when its call returns. It must not know kernels.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{BufferSlice, Executable, Fence, Queue};
use ggrs_core::{DeviceError, ExecError};

use crate::buffer::{CpuBuffer, Shared, locate};

/// A queue of the CPU device.
pub(crate) struct CpuQueue {
    device: Arc<Shared>,
    submitted: u64,
}

impl CpuQueue {
    pub(crate) const fn new(device: Arc<Shared>) -> Self {
        Self {
            device,
            submitted: 0,
        }
    }

    /// Writes to the first `n_bytes` of a slice.
    fn write(
        &self,
        to: &BufferSlice,
        n_bytes: u64,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), DeviceError> {
        let to = to.range(&self.device.name, 0, n_bytes)?;
        let (buffer, range) = locate(&self.device, &to)?;
        buffer.check_writable()?;
        let mut gate = self.device.gate();
        if let Some(target) = buffer.write(&mut gate).get_mut(range) {
            write(target);
        }
        Ok(())
    }
}

impl Queue for CpuQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        self.write(to, data.len() as u64, |target| target.copy_from_slice(data))
    }

    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError> {
        let from = from.range(&self.device.name, 0, data.len() as u64)?;
        let (buffer, range) = locate(&self.device, &from)?;
        let gate = self.device.gate();
        if let Some(bytes) = buffer.read(&gate).get(range) {
            data.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError> {
        let to = to.range(&self.device.name, 0, from.bytes)?;
        let (source, source_range) = locate(&self.device, from)?;
        let (target, target_range) = locate(&self.device, &to)?;
        target.check_writable()?;
        CpuBuffer::copy(
            source,
            source_range,
            target,
            target_range.start,
            &mut self.device.gate(),
        );
        Ok(())
    }

    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError> {
        self.write(to, to.bytes, |target| target.fill(byte))
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
