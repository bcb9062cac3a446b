//! A graph with its device, queue and executable: set inputs by name, run, read outputs by name.

use std::sync::Arc;

use super::{Bindings, BufferSlice, Device, Executable, Queue};
use crate::plan::Plan;
use crate::{BindError, ExecError};

/// A compiled plan with its queue.
pub struct Runner {
    queue: Box<dyn Queue>,
    executable: Box<dyn Executable>,
}

impl Runner {
    /// Compiles `plan` for `device` over the bound weights and states.
    pub fn new(
        device: &dyn Device,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Self, BindError> {
        Ok(Self {
            queue: device.queue()?,
            executable: device.compile(plan, bindings)?,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        self.executable.plan()
    }

    /// The executable, for capture.
    pub fn executable(&mut self) -> &mut dyn Executable {
        &mut *self.executable
    }

    /// Writes an input: little-endian bytes of a contiguous tensor.
    pub fn set(&mut self, name: &str, data: &[u8]) -> Result<(), ExecError> {
        let plan = Arc::clone(self.executable.plan());
        let index = plan.inputs.iter().position(|i| i.name == name);
        let slice = index.and_then(|i| self.executable.value(plan.inputs.get(i)?.value));
        let slice = slice
            .ok_or_else(|| no_such("input", name, plan.inputs.iter().map(|i| i.name.clone())))?;
        slice.check_filled(name, data.len())?;
        Ok(self.queue.upload(&slice, data)?)
    }

    /// Runs once and waits.
    pub fn run(&mut self) -> Result<(), ExecError> {
        let steps = 0..self.executable.plan().steps.len();
        let fence = self.queue.submit(&mut *self.executable, steps)?;
        self.queue.wait(fence)
    }

    /// Reads a whole output.
    pub fn get(&mut self, name: &str) -> Result<Vec<u8>, ExecError> {
        let slice = self.output(name)?;
        let mut data = vec![0; usize::try_from(slice.bytes).unwrap_or(0)];
        self.queue.download(&slice, &mut data)?;
        Ok(data)
    }

    /// Reads a whole output into memory the caller keeps.
    pub fn get_into(&mut self, name: &str, data: &mut [u8]) -> Result<(), ExecError> {
        let slice = self.output(name)?;
        slice.check_filled(name, data.len())?;
        self.queue.download(&slice, data)
    }

    fn output(&self, name: &str) -> Result<BufferSlice, ExecError> {
        let plan = self.executable.plan();
        let index = plan.outputs.iter().position(|o| o.name == name);
        index
            .and_then(|i| self.executable.value(plan.outputs.get(i)?.value))
            .ok_or_else(|| no_such("output", name, plan.outputs.iter().map(|o| o.name.clone())))
    }
}

fn no_such(kind: &'static str, name: &str, available: impl Iterator<Item = String>) -> ExecError {
    ExecError::NoSuch {
        kind,
        name: name.to_owned(),
        available: available.collect(),
    }
}
