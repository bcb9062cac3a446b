//! The queue: transfers and runs in the order of the device's stream. Faults of a run show when it is waited for.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use ggrs_core::device::{BufferSlice, Executable, Fence, Queue};
use ggrs_core::{DeviceError, ExecError};

use crate::buffer::locate;
use crate::context::Context;
use crate::faults::FaultBoard;

/// A queue of a device.
pub(crate) struct SimtQueue {
    context: Arc<Context>,
    submitted: u64,
    /// What runs in flight may have found.
    pending: Vec<Arc<FaultBoard>>,
}

impl SimtQueue {
    pub(crate) const fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            submitted: 0,
            pending: Vec::new(),
        }
    }

    /// Waits for everything, and says what went wrong in it.
    fn settle(&mut self) -> Result<(), ExecError> {
        let mut gate = self.context.gate();
        let done = self.context.synchronize(&mut gate);
        let pending = std::mem::take(&mut self.pending);
        // If a member was late the stream is empty all the same.
        if let Err(error) = &done
            && !matches!(error, DeviceError::Timeout { .. })
        {
            return Ok(done?);
        }
        // All are looked at: what one found must not show in its next run.
        let found = pending.iter().map(|board| board.check(&mut gate));
        let found = found.fold(Ok(()), Result::and);
        found.and(done.map_err(ExecError::from))
    }
}

impl Queue for SimtQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        let to = to.range(&self.context.name, 0, data.len() as u64)?;
        let start = locate(&self.context, &to)?;
        self.context.upload(&mut self.context.gate(), start, data)
    }

    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError> {
        let from = from.range(&self.context.name, 0, data.len() as u64)?;
        let start = locate(&self.context, &from)?;
        self.context
            .download(&mut self.context.gate(), start, data)?;
        if self.pending.is_empty() {
            return Ok(());
        }
        self.settle()
    }

    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError> {
        let to = to.range(&self.context.name, 0, from.bytes)?;
        let (source, target) = (locate(&self.context, from)?, locate(&self.context, &to)?);
        self.context
            .copy(&mut self.context.gate(), source, target, from.bytes)
    }

    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError> {
        let start = locate(&self.context, to)?;
        self.context
            .fill(&mut self.context.gate(), start, byte, to.bytes)
    }

    fn submit(
        &mut self,
        executable: &mut dyn Executable,
        steps: Range<usize>,
    ) -> Result<Fence, ExecError> {
        let context = Arc::clone(&self.context);
        let _mine = context
            .submitting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        executable.run(steps)?;
        let mut submitted = context
            .submitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.pending.extend(submitted.take());
        self.submitted += 1;
        Ok(Fence(self.submitted))
    }

    fn wait(&mut self, _: Fence) -> Result<(), ExecError> {
        self.settle()
    }
}
