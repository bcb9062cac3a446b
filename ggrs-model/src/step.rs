//! A compiled step and what was last written to it: what has not changed is not written again.

use ggrs_core::ExecError;
use ggrs_core::device::KernelTime;
use ggrs_sched::SchedRunner;

/// A compiled step.
pub(crate) struct Step {
    runner: SchedRunner,
    /// Inputs and states by name, with the bytes that they hold; none if that is not known.
    held: Vec<(&'static str, Vec<u8>)>,
}

impl Step {
    pub(crate) const fn new(runner: SchedRunner) -> Self {
        Self {
            runner,
            held: Vec::new(),
        }
    }

    /// Writes an input or a state, unless it holds these bytes already.
    ///
    /// # Errors
    /// Those of [`SchedRunner::set`].
    pub(crate) fn set(&mut self, name: &'static str, data: &[u8]) -> Result<(), ExecError> {
        let held = held_in(&mut self.held, name);
        if held == data {
            return Ok(());
        }
        held.clear();
        self.runner.set(name, data)?;
        held.extend_from_slice(data);
        Ok(())
    }

    /// What an input or a state holds, to be changed as a run has changed it.
    pub(crate) fn held(&mut self, name: &'static str) -> &mut Vec<u8> {
        held_in(&mut self.held, name)
    }

    /// Runs once and waits.
    ///
    /// # Errors
    /// Those of [`SchedRunner::run`].
    pub(crate) fn run(&mut self) -> Result<(), ExecError> {
        let done = self.runner.run();
        if done.is_err() {
            self.held.clear();
        }
        done
    }

    /// Reads a whole output.
    ///
    /// # Errors
    /// Those of [`SchedRunner::get_into`].
    pub(crate) fn get_into(&mut self, name: &str, data: &mut [u8]) -> Result<(), ExecError> {
        self.runner.get_into(name, data)
    }

    /// Where a run's time goes.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn profile(&mut self) -> Result<Vec<(String, Vec<KernelTime>)>, ExecError> {
        self.held.clear();
        self.runner.profile()
    }
}

fn held_in<'a>(all: &'a mut Vec<(&'static str, Vec<u8>)>, name: &'static str) -> &'a mut Vec<u8> {
    let at = all.iter().position(|(n, _)| *n == name);
    let at = at.unwrap_or_else(|| {
        all.push((name, Vec::new()));
        all.len() - 1
    });
    &mut all[at].1
}
