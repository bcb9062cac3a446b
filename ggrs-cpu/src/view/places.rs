//! From a plan's places to views of bound memory: where bounds are checked, once for every step.

use ggrs_core::device::WeightForm;
use ggrs_core::plan::{Plan, Region, Step};
use ggrs_core::{DeviceError, ValueId};
use smallvec::SmallVec;

use super::{Grid, In, Out, Scratch};
use crate::buffer::CpuBuffer;
use crate::kernel::Args;

/// The memory that a plan is bound to.
pub(crate) struct Places<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// The device, for messages.
    pub(crate) device: &'a str,
    /// Finds the buffer of a region and where the region begins in it.
    pub(crate) find: &'a dyn Fn(Region) -> Option<(&'a CpuBuffer, u64)>,
}

/// Views of a step's memory.
pub(crate) struct StepViews {
    inputs: SmallVec<[In; 4]>,
    outputs: SmallVec<[Out; 2]>,
    scratch: Scratch,
}

impl StepViews {
    /// The memory as a kernel is built over it.
    pub(crate) fn args(&self) -> Args<'_> {
        Args {
            inputs: &self.inputs,
            outputs: &self.outputs,
            scratch: self.scratch,
        }
    }
}

impl Places<'_> {
    /// Views of all that a step touches.
    ///
    /// # Errors
    /// A place outside its memory.
    ///
    /// # Safety
    /// The views are used only while the plan's buffers live, by kernels that run with the device's gate in hand. The
    /// plan gives no two values that live at once the same memory.
    pub(crate) unsafe fn step(&self, step: &Step) -> Result<StepViews, DeviceError> {
        let node = self.plan.graph.node(step.node);
        // SAFETY: the caller's promise.
        let inputs = node
            .inputs
            .iter()
            .map(|v| unsafe { self.input(*v) })
            .collect::<Result<_, _>>()?;
        // SAFETY: the caller's promise.
        let outputs = node
            .outputs
            .iter()
            .map(|v| unsafe { self.output(*v) })
            .collect::<Result<_, _>>()?;
        let (start, n_bytes) = self.bytes(
            Region::Arena(step.device),
            step.scratch_offset,
            step.route.scratch_bytes,
            true,
        )?;
        // SAFETY: the bytes are inside the arena, at an offset that the plan aligned.
        let scratch = unsafe { Scratch::new(start, n_bytes) };
        Ok(StepViews {
            inputs,
            outputs,
            scratch,
        })
    }

    /// A range of a region: its start and length.
    fn bytes(
        &self,
        region: Region,
        offset: u64,
        n_bytes: u64,
        write: bool,
    ) -> Result<(*mut u8, usize), DeviceError> {
        let outside = |start: u64, size: u64| DeviceError::Range {
            device: self.device.to_owned(),
            start,
            end: start.saturating_add(n_bytes),
            size,
        };
        let (buffer, base) = (self.find)(region).ok_or_else(|| outside(offset, 0))?;
        if write {
            buffer.check_writable()?;
        }
        let start = base.saturating_add(offset);
        let size = buffer.memory().bytes() as u64;
        match (
            usize::try_from(start),
            usize::try_from(n_bytes),
            start.checked_add(n_bytes),
        ) {
            (Ok(start), Ok(n_bytes), Some(end)) if end <= size => {
                // SAFETY: `start` is inside the memory.
                Ok((
                    unsafe { buffer.memory().start().add(start) }.as_ptr(),
                    n_bytes,
                ))
            }
            _ => Err(outside(start, size)),
        }
    }

    /// Where a value's first element lies.
    fn start(&self, value: ValueId, write: bool) -> Result<*mut u8, DeviceError> {
        let (desc, place) = (self.plan.graph.desc(value), self.plan.place(value));
        let span = desc.span_bytes().unwrap_or(usize::MAX) as u64;
        let (start, _) = self.bytes(place.region, place.offset, span, write)?;
        if span == 0 {
            return Ok(start);
        }
        let skip = desc.elem_bytes(desc.layout.offset()).unwrap_or(0);
        // SAFETY: the span was just found inside the memory, and begins behind the offset.
        Ok(unsafe { start.add(skip) })
    }

    /// # Safety
    /// As for [`Places::step`].
    unsafe fn input(&self, value: ValueId) -> Result<In, DeviceError> {
        let (desc, place) = (self.plan.graph.desc(value), self.plan.place(value));
        let grid = Grid::new(desc);
        let packed = match place.region {
            Region::Weight(i) => self
                .plan
                .weights
                .get(i)
                .filter(|w| matches!(w.form, WeightForm::Packed(_))),
            _ => None,
        };
        if let Some(weight) = packed {
            let (start, n_bytes) = self.bytes(place.region, 0, weight.bytes, false)?;
            // SAFETY: the packed bytes are inside the weight's memory, which is not written; the rest is the caller's.
            return Ok(unsafe { In::new(start, desc.dtype, grid, Some(n_bytes)) });
        }
        let start = self.start(value, false)?;
        // SAFETY: all that the layout spans is inside the memory, which is aligned as the plan's offsets are; the rest
        // is the caller's promise.
        Ok(unsafe { In::new(start, desc.dtype, grid, None) })
    }

    /// # Safety
    /// As for [`Places::step`].
    unsafe fn output(&self, value: ValueId) -> Result<Out, DeviceError> {
        let desc = self.plan.graph.desc(value);
        let start = self.start(value, true)?;
        // SAFETY: as for `input`; the builder lets no op write a tensor that repeats elements.
        Ok(unsafe { Out::new(start, desc.dtype, Grid::new(desc)) })
    }
}
