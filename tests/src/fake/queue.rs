//! Transfers of a fake device: each an event that may fail, checked and recorded before the CPU does it.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{BufferSlice, Executable, Fence, Queue};
use ggrs_core::{DeviceError, ExecError};

use super::audit::{Finding, Transfer};
use super::buffer::FakeBuffer;
use super::fault::Point;
use super::state::DeviceState;
use super::written::Writer;

/// Bytes in a row that nobody wrote and that a download may bring along: less is a gap between values.
const GAP: u64 = 64;

/// A queue.
pub(super) struct FakeQueue {
    owner: Arc<DeviceState>,
    /// The device's life in which it was made.
    life: u64,
    inner: Box<dyn Queue>,
}

impl FakeQueue {
    pub(super) fn new(owner: &Arc<DeviceState>) -> Result<Self, DeviceError> {
        Ok(Self {
            life: owner.alive()?,
            inner: owner.inner.queue()?,
            owner: Arc::clone(owner),
        })
    }

    /// An event of this queue.
    fn event(&self, point: Point, bytes: u64, what: &str) -> Result<(), DeviceError> {
        self.owner.check_life(self.life)?;
        self.owner.event(point, bytes, || what.to_owned())
    }
}

impl Queue for FakeQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        let bytes = data.len() as u64;
        self.event(Point::Upload, bytes, "host memory")?;
        let (buffer, range, inner) = FakeBuffer::locate(&self.owner, to, bytes, Transfer::Upload)?;
        let done = self.inner.upload(&inner, data);
        done.map_err(|error| self.owner.own(error))?;
        buffer.written().set(range, Writer::Host);
        Ok(())
    }

    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError> {
        let bytes = data.len() as u64;
        self.event(Point::Download, bytes, "device memory")?;
        let (buffer, range, inner) =
            FakeBuffer::locate(&self.owner, from, bytes, Transfer::Download)?;
        let missing = buffer.written().missing(range.clone(), |_| true);
        let poisoned = missing
            .into_iter()
            .map(|(gap, _)| gap)
            .find(|gap| gap.end - gap.start >= GAP || *gap == range);
        if let Some(range) = poisoned {
            self.owner.report(Finding::PoisonDownload {
                device: self.owner.name.clone(),
                range,
            });
        }
        let done = self.inner.download(&inner, data);
        done.map_err(|error| self.owner.own_run(error))
    }

    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError> {
        let bytes = from.bytes;
        self.event(Point::Copy, bytes, "device memory")?;
        let (source, source_range, inner_from) =
            FakeBuffer::locate(&self.owner, from, bytes, Transfer::CopyFrom)?;
        let (target, target_range, inner_to) =
            FakeBuffer::locate(&self.owner, to, bytes, Transfer::CopyTo)?;
        let done = self.inner.copy(&inner_from, &inner_to);
        done.map_err(|error| self.owner.own(error))?;
        // What was poison stays poison where it arrives.
        let parts: Vec<Range<u64>> = source
            .written()
            .parts(source_range.clone())
            .map(|(part, _)| part)
            .collect();
        let mut written = target.written();
        written.clear(target_range.clone());
        for part in parts {
            let start = target_range.start + (part.start - source_range.start);
            written.set(start..start + (part.end - part.start), Writer::Host);
        }
        Ok(())
    }

    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError> {
        self.event(Point::Copy, to.bytes, "a fill")?;
        let (buffer, range, inner) = FakeBuffer::locate(&self.owner, to, to.bytes, Transfer::Fill)?;
        let done = self.inner.fill(&inner, byte);
        done.map_err(|error| self.owner.own(error))?;
        buffer.written().set(range, Writer::Host);
        Ok(())
    }

    fn submit(
        &mut self,
        executable: &mut dyn Executable,
        steps: Range<usize>,
    ) -> Result<Fence, ExecError> {
        self.owner.check_life(self.life)?;
        // The executable counts the launch.
        self.inner.submit(executable, steps)
    }

    fn wait(&mut self, fence: Fence) -> Result<(), ExecError> {
        self.event(Point::Fence, 0, "submitted work")?;
        let done = self.inner.wait(fence);
        done.map_err(|error| self.owner.own_run(error))
    }
}
