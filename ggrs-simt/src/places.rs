//! From a plan's places to addresses: where bounds are checked, once for every step.

use std::sync::Arc;

use ggrs_core::device::{BoundMemory, WeightForm};
use ggrs_core::plan::{Region, Step};
use ggrs_core::{DeviceError, ValueId};

use crate::buffer::SimtBuffer;
use crate::context::Context;
use crate::driver::DevicePtr;
use crate::kernel::Operand;

/// The memory that a plan is bound to, as addresses.
pub(crate) struct Places<'a> {
    pub(crate) context: &'a Arc<Context>,
    pub(crate) memory: &'a BoundMemory,
}

/// A step's memory as addresses.
pub(crate) struct Operands<'a> {
    pub(crate) inputs: Vec<Operand<'a>>,
    pub(crate) outputs: Vec<Operand<'a>>,
    pub(crate) scratch: DevicePtr,
}

impl<'a> Places<'a> {
    /// The operands and results of a step.
    ///
    /// # Errors
    /// A place outside its memory: a bug in a plan.
    pub(crate) fn operands(&self, step: &Step) -> Result<Operands<'a>, DeviceError> {
        let node = self.memory.plan().graph.node(step.node);

        let region = Region::Arena(step.device);
        Ok(Operands {
            inputs: self.all(&node.inputs)?,
            outputs: self.all(&node.outputs)?,
            scratch: self.address(region, step.scratch_offset, step.route.scratch_bytes)?,
        })
    }

    /// The address of a range of a region.
    fn address(&self, region: Region, offset: u64, bytes: u64) -> Result<DevicePtr, DeviceError> {
        let outside = |start: u64, size: u64| DeviceError::Range {
            device: self.context.name.clone(),
            start,
            end: start.saturating_add(bytes),
            size,
        };
        let Some((buffer, base)) = self.memory.buffer(region) else {
            return Err(outside(offset, 0));
        };
        let start = base.saturating_add(offset);
        match start.checked_add(bytes) {
            Some(end) if end <= buffer.bytes() => {
                Ok(SimtBuffer::of(self.context, &**buffer)?.start().plus(start))
            }
            _ => Err(outside(start, buffer.bytes())),
        }
    }

    fn all(&self, values: &[ValueId]) -> Result<Vec<Operand<'a>>, DeviceError> {
        values.iter().map(|v| self.operand(*v)).collect()
    }

    fn operand(&self, value: ValueId) -> Result<Operand<'a>, DeviceError> {
        let plan = self.memory.plan();
        let (desc, place) = (plan.graph.desc(value), plan.place(value));
        let weight = match place.region {
            Region::Weight(i) => plan.weights.get(i),
            _ => None,
        };
        let packed = weight.filter(|w| matches!(w.form, WeightForm::Packed(_)));
        let bytes = match packed {
            Some(weight) => weight.bytes,
            None => desc.span_bytes().unwrap_or(usize::MAX) as u64,
        };
        Ok(Operand {
            desc,
            storage: self.address(place.region, place.offset, bytes)?,
            storage_elems: packed.and_then(|w| w.desc.shape.elems()).unwrap_or(0),
            is_packed: packed.is_some(),
        })
    }
}
