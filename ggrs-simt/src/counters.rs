//! Counters by which the blocks of a launch know the last of them: device memory of an executable that is zero before
//! and after every launch. Working memory cannot serve: other steps use it in between.

use std::sync::Arc;

use ggrs_core::DeviceError;

use crate::context::Context;
use crate::driver::DevicePtr;

/// The counters of an executable, 32 bits each.
pub(crate) struct Counters {
    context: Arc<Context>,
    memory: DevicePtr,
    bytes: u64,
}

impl Counters {
    /// So many counters, all zero.
    pub(crate) fn new(context: &Arc<Context>, n: usize) -> Result<Self, DeviceError> {
        let bytes = 4 * n as u64;
        let counters = Self {
            context: Arc::clone(context),
            memory: context.alloc(bytes, "counters")?,
            bytes,
        };
        context.fill(&mut context.gate(), counters.memory, 0, bytes)?;
        Ok(counters)
    }

    /// Where counter `i` lies.
    pub(crate) const fn at(&self, i: usize) -> DevicePtr {
        self.memory.plus(4 * i as u64)
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.context.free(self.memory, self.bytes);
    }
}
