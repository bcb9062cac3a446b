//! From a plan's places to views of bound memory: where bounds are checked, once for every step.

use ggrs_core::device::WeightForm;
use ggrs_core::plan::{Plan, Region, Step};
use ggrs_core::{DeviceError, ValueId};
use smallvec::SmallVec;

use super::{Grid, In, Out, Scratch};
use crate::buffer::CpuBuffer;
use crate::kernel::{Args, Choice, Kernel};

/// The memory that a plan is bound to.
pub(crate) struct Places<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// The device, for messages.
    pub(crate) device: &'a str,
    /// Finds the buffer of a region and where the region begins in it.
    pub(crate) find: &'a dyn Fn(Region) -> Option<(&'a CpuBuffer, u64)>,
}

impl Places<'_> {
    /// The kernel of a step over the step's memory.
    ///
    /// The kernel must not outlive the plan's buffers, and runs with the device's gate in hand: it is made for an
    /// executable, which sees to both. That values which live at once have different memory is the planner's promise.
    ///
    /// # Errors
    /// A place outside its memory.
    pub(crate) fn kernel(
        &self,
        step: &Step,
        choice: &Choice,
    ) -> Result<Box<dyn Kernel>, DeviceError> {
        let node = self.plan.graph.node(step.node);
        let inputs = node.inputs.iter().map(|v| self.input(*v));
        let inputs: SmallVec<[In; 4]> = inputs.collect::<Result<_, _>>()?;
        let outputs = node.outputs.iter().map(|v| self.output(*v));
        let outputs: SmallVec<[Out; 2]> = outputs.collect::<Result<_, _>>()?;
        let region = Region::Arena(step.device);
        let (start, n_bytes) =
            self.bytes(region, step.scratch_offset, step.route.scratch_bytes, true)?;
        // SAFETY: the bytes are inside the arena, at an offset that the plan aligned; for the rest see above.
        let scratch = unsafe { Scratch::new(start, n_bytes) };
        Ok(choice.build(&Args {
            inputs: &inputs,
            outputs: &outputs,
            scratch,
        }))
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

    fn input(&self, value: ValueId) -> Result<In, DeviceError> {
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
            // SAFETY: the packed bytes are inside the weight's memory, which is not written; for the
            // rest see `kernel`.
            return Ok(unsafe { In::new(start, desc.dtype, grid, Some(n_bytes)) });
        }
        let start = self.start(value, false)?;
        // SAFETY: all that the layout spans is inside the memory, which is aligned as the plan's offsets are; for
        // the rest see `kernel`.
        Ok(unsafe { In::new(start, desc.dtype, grid, None) })
    }

    fn output(&self, value: ValueId) -> Result<Out, DeviceError> {
        let desc = self.plan.graph.desc(value);
        let start = self.start(value, true)?;
        // SAFETY: as for `input`; the graph's builder lets no op write a tensor that repeats elements.
        Ok(unsafe { Out::new(start, desc.dtype, Grid::new(desc)) })
    }
}
