//! Running a plan over several devices: each device up to the next copy, then the copy.

use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, Device, Executable, KernelTime, Queue};
use ggrs_core::ops::Op;
use ggrs_core::{BindError, DeviceError, ExecError, ValueId};

use crate::plan::{CopySource, SchedPlan};

/// Weights by name as they stand in a model's file, for those that are copied to a device in each run.
pub trait WeightFile: Send + Sync {
    /// The bytes of a weight.
    fn bytes(&self, name: &str) -> Option<&[u8]>;
}

/// A compiled plan over several devices: set inputs by name, run, read outputs by name.
pub struct SchedRunner {
    plan: Arc<SchedPlan>,
    parts: Vec<PartRunner>,
    copies: Vec<BoundCopy>,
    file: Option<Arc<dyn WeightFile>>,
    staging: Vec<u8>,
}

struct PartRunner {
    device: String,
    queue: Box<dyn Queue>,
    executable: Box<dyn Executable>,
    /// Steps done in this run.
    done: usize,
}

/// The two ends of a copy in memory.
struct BoundCopy {
    from: Option<BufferSlice>,
    to: BufferSlice,
}

impl SchedRunner {
    /// Compiles every part for its device over that device's weights and states.
    ///
    /// `bindings` has one entry per device of the placement; `file` is needed only by plans that copy weights.
    ///
    /// # Errors
    /// A weight or state without a buffer, a device without memory.
    pub fn new(
        devices: &[Arc<dyn Device>],
        plan: &Arc<SchedPlan>,
        bindings: &[Bindings],
        file: Option<Arc<dyn WeightFile>>,
    ) -> Result<Self, BindError> {
        let none = Bindings::new();
        let mut parts = Vec::with_capacity(plan.parts.len());
        for part in &plan.parts {
            let Some(device) = devices.get(part.device) else {
                return Err(DeviceError::NotFound {
                    name: format!("device {} of the plan", part.device),
                    available: plan.devices.clone(),
                }
                .into());
            };
            let bound = bindings.get(part.device).unwrap_or(&none);
            parts.push(PartRunner {
                device: device.name().to_string(),
                queue: device.queue()?,
                executable: device.compile(&part.plan, bound)?,
                done: 0,
            });
        }
        let mut copies = Vec::with_capacity(plan.copies.len());
        for copy in &plan.copies {
            let from = match copy.from {
                CopySource::Part { part, step } => Some(end(&parts, part, step)?),
                CopySource::File => None,
            };
            let to = end(&parts, copy.to, copy.to_step)?;
            copies.push(BoundCopy { from, to });
        }
        let largest = plan.copies.iter().map(|c| c.bytes).max().unwrap_or(0);
        Ok(Self {
            plan: Arc::clone(plan),
            parts,
            copies,
            file,
            staging: vec![0; usize::try_from(largest).unwrap_or(0)],
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<SchedPlan> {
        &self.plan
    }

    /// Records the next run of every part, so that later runs replay it.
    ///
    /// # Errors
    /// Capture out of turn.
    pub fn capture(&mut self) -> Result<(), ExecError> {
        self.parts
            .iter_mut()
            .try_for_each(|p| p.executable.capture())
    }

    /// Where a run's time goes, for each device that can tell.
    ///
    /// # Errors
    /// A device that fails.
    pub fn profile(&mut self) -> Result<Vec<(String, Vec<KernelTime>)>, ExecError> {
        let profile = |p: &mut PartRunner| Ok((p.device.clone(), p.executable.profile()?));
        self.parts.iter_mut().map(profile).collect()
    }

    /// Writes an input or the whole of a state, on every device that reads it: little-endian bytes of a contiguous
    /// tensor.
    ///
    /// # Errors
    /// No such input or state, data of the wrong length, a device that fails.
    pub fn set(&mut self, name: &str, data: &[u8]) -> Result<(), ExecError> {
        let mut found = false;
        for (part, planned) in self.parts.iter_mut().zip(&self.plan.parts) {
            let input = planned.plan.inputs.iter().find(|i| i.name == name);
            let value = input.map(|i| i.value);
            let value = value.or_else(|| planned.plan.state(name).map(|s| s.value));
            let slice = value.and_then(|value| part.executable.value(value));
            if let Some(slice) = slice {
                slice.check_filled(name, data.len())?;
                part.queue.upload(&slice, data)?;
                found = true;
            }
        }
        if found {
            return Ok(());
        }
        let inputs = self.plan.parts.iter().flat_map(|p| &p.plan.inputs);
        Err(ExecError::NoSuch {
            kind: "input",
            name: name.to_owned(),
            available: inputs.map(|i| i.name.clone()).collect(),
        })
    }

    /// Runs once and waits.
    ///
    /// # Errors
    /// Bad data that a kernel found, a device that fails; the runner can be used again unless the device is lost.
    pub fn run(&mut self) -> Result<(), ExecError> {
        for part in &mut self.parts {
            part.done = 0;
        }
        let plan = Arc::clone(&self.plan);
        for (copy, bound) in plan.copies.iter().zip(&self.copies) {
            let n_bytes = usize::try_from(copy.bytes).unwrap_or(usize::MAX);
            let staging = self.staging.get_mut(..n_bytes).unwrap_or_default();
            match (&copy.from, &bound.from) {
                (CopySource::Part { part, step }, Some(from)) => {
                    let Some(source) = self.parts.get_mut(*part) else {
                        continue;
                    };
                    source.advance(*step)?;
                    source.queue.download(from, staging)?;
                }
                _ => {
                    let bytes = self.file.as_ref().and_then(|f| f.bytes(&copy.name));
                    let bytes = bytes.filter(|b| b.len() == n_bytes);
                    let bytes = bytes.ok_or_else(|| ExecError::NoSuch {
                        kind: "weight in the model's file",
                        name: copy.name.clone(),
                        available: Vec::new(),
                    })?;
                    staging.copy_from_slice(bytes);
                }
            }
            if let Some(target) = self.parts.get_mut(copy.to) {
                target.advance(copy.to_step)?;
                target.queue.upload(&bound.to, staging)?;
            }
        }
        for (part, planned) in self.parts.iter_mut().zip(&plan.parts) {
            part.advance(planned.plan.steps.len())?;
        }
        Ok(())
    }

    /// Reads a whole output into memory the caller keeps.
    ///
    /// # Errors
    /// No such output, memory of the wrong length, a device that fails.
    pub fn get_into(&mut self, name: &str, data: &mut [u8]) -> Result<(), ExecError> {
        for (part, planned) in self.parts.iter_mut().zip(&self.plan.parts) {
            let slot = planned.plan.outputs.iter().find(|o| o.name == name);
            if let Some(slice) = slot.and_then(|slot| part.executable.value(slot.value)) {
                slice.check_filled(name, data.len())?;
                return part.queue.download(&slice, data);
            }
        }
        let outputs = self.plan.parts.iter().flat_map(|p| &p.plan.outputs);
        Err(ExecError::NoSuch {
            kind: "output",
            name: name.to_owned(),
            available: outputs.map(|o| o.name.clone()).collect(),
        })
    }

    /// Reads a whole output.
    ///
    /// # Errors
    /// Those of [`SchedRunner::get_into`].
    pub fn get(&mut self, name: &str) -> Result<Vec<u8>, ExecError> {
        let outputs = self.plan.parts.iter().flat_map(|p| &p.plan.outputs);
        let slot = outputs.into_iter().find(|o| o.name == name);
        let mut data = vec![0; slot.and_then(|o| o.desc.bytes()).unwrap_or(0)];
        self.get_into(name, &mut data)?;
        Ok(data)
    }
}

impl PartRunner {
    /// Runs the steps up to `step`; the exchange that may stand before them is done.
    fn advance(&mut self, step: usize) -> Result<(), ExecError> {
        let plan = Arc::clone(self.executable.plan());
        while self.done < step {
            let ahead = plan.steps.get(self.done..step).unwrap_or_default();
            let run = ahead.iter().take_while(|s| !s.is_exchange).count();
            if run > 0 {
                let steps = self.done..self.done + run;
                let fence = self.queue.submit(&mut *self.executable, steps)?;
                self.queue.wait(fence)?;
            }
            // Over the exchange, which has happened: copies come in the order of their steps.
            self.done += run + usize::from(run < ahead.len());
        }
        Ok(())
    }
}

/// The memory of one end of a copy.
fn end(parts: &[PartRunner], part: usize, step: usize) -> Result<BufferSlice, BindError> {
    let runner = parts.get(part);
    let find = |p: &PartRunner| {
        let plan = p.executable.plan();
        let node = plan.graph.node(plan.steps.get(step)?.node);
        let value: Option<&ValueId> = match node.op {
            Op::Send(_) => node.inputs.first(),
            _ => node.outputs.first(),
        };
        p.executable.value(*value?)
    };
    runner.and_then(find).ok_or_else(|| {
        let device = runner.map_or_else(String::new, |p| p.device.clone());
        DeviceError::Setting {
            device,
            setting: "plan",
            value: format!("a copy at step {step}"),
            possible: "a contiguous value of the device's own plan".to_owned(),
        }
        .into()
    })
}
