//! The queue: transfers and runs, each done when its call returns. It must not know kernels.

use std::sync::Arc;

use ggrs_core::device::{BufferSlice, Executable, Fence, Queue};
use ggrs_core::{DeviceError, ExecError};

use crate::buffer::{Shared, locate};

/// A queue of the CPU device.
pub(crate) struct CpuQueue {
    device: Arc<Shared>,
    submitted: u64,
}

impl CpuQueue {
    pub(crate) const fn new(device: Arc<Shared>) -> Self {
        Self { device, submitted: 0 }
    }

    /// Where `n_bytes` at the start of a slice are to be written.
    fn with_target(&self, to: &BufferSlice, n_bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), DeviceError> {
        let to = to.range(&self.device.name, 0, n_bytes as u64)?;
        let (buffer, range) = locate(&self.device, &to)?;
        let mut gate = self.device.gate();
        let whole = buffer.write(&mut gate);
        match whole.get_mut(range) {
            Some(target) => write(target),
            // Only memory that the device shares with somebody else is not writable.
            None => {
                let (start, end) = (to.offset, to.offset + to.bytes);
                return Err(DeviceError::Range { device: self.device.name.clone(), start, end, size: 0 });
            }
        }
        Ok(())
    }
}

impl Queue for CpuQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        self.with_target(to, data.len(), |target| target.copy_from_slice(data))
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
        let (source, source_range) = locate(&self.device, from)?;
        if Arc::ptr_eq(&from.buffer, &to.buffer) {
            // The same buffer: the ranges may overlap.
            return self.with_target(&BufferSlice::whole(Arc::clone(&to.buffer)), source.memory().bytes(), |whole| {
                let start = usize::try_from(to.offset).unwrap_or(usize::MAX);
                if start.saturating_add(source_range.len()) <= whole.len() {
                    whole.copy_within(source_range, start);
                }
            });
        }
        self.with_target(to, source_range.len(), |target| source.copy_out(source_range, target))
    }

    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError> {
        let n_bytes = usize::try_from(to.bytes).unwrap_or(usize::MAX);
        self.with_target(to, n_bytes, |target| target.fill(byte))
    }

    fn submit(&mut self, executable: &mut dyn Executable) -> Result<Fence, ExecError> {
        executable.run()?;
        self.submitted += 1;
        Ok(Fence(self.submitted))
    }

    fn wait(&mut self, _: Fence) -> Result<(), ExecError> {
        Ok(())
    }
}
