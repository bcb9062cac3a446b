//! Buckets: the token counts for which executables are compiled. A step of fewer tokens runs padded.

use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, Queue};
use ggrs_core::{DeviceError, ExecError, Graph, TensorDesc};
use ggrs_sched::{SchedPlan, SchedRunner, WeightFile};

use crate::blocks::names;
use crate::error::SessionError;
use crate::model::Model;

/// The smallest bucket that holds `n` tokens, at most `max`: 1, 2, 3, 4, 6, 8, 12, 16, 24, .. so that padding never
/// exceeds a third of the step.
pub(crate) fn bucket(n: usize, max: usize) -> usize {
    let power = n.next_power_of_two();
    let three_quarters = power / 4 * 3;
    let size = if three_quarters >= n {
        three_quarters
    } else {
        power
    };
    size.min(max)
}

/// How many executables are kept besides that of one token; for every further slot one more, since a step may decode
/// for any number of them.
pub(crate) const KEPT: usize = 3;

/// Compiled steps over one set of weights and states.
pub(crate) struct Steps {
    model: Arc<Model>,
    graph: Graph,
    /// For each device of the placement, weights and states.
    bindings: Vec<Bindings>,
    /// One per device of the placement, for the states' own transfers.
    queues: Vec<Box<dyn Queue>>,
    states: Vec<StateInfo>,
    n_slots: usize,
    /// Tokens, rows of logits, executable; the last used at the end.
    compiled: Vec<(usize, usize, SchedRunner)>,
}

/// A state as the model sees it, whatever devices hold it.
pub(crate) struct StateInfo {
    /// Its name in the graph.
    pub(crate) name: String,
    /// What it is as a whole.
    pub(crate) desc: TensorDesc,
    /// Its memory, and the queue of the device that holds it.
    memory: BufferSlice,
    queue: usize,
}

impl Steps {
    /// Allocates the states of a model's graph where its plan wants them. `no_room` makes the error of memory that is
    /// not there, given the bytes of all states.
    pub(crate) fn new(
        model: &Arc<Model>,
        graph: Graph,
        n_slots: usize,
        no_room: impl Fn(u64, DeviceError) -> SessionError,
    ) -> Result<Self, SessionError> {
        let mut steps = Self {
            model: Arc::clone(model),
            graph,
            bindings: model.weights().to_vec(),
            queues: Vec::new(),
            states: Vec::new(),
            n_slots: n_slots.max(1),
            compiled: Vec::new(),
        };
        let plan = steps.plan(1, 1)?;
        let slots = plan
            .parts
            .iter()
            .flat_map(|p| p.plan.states.iter().map(|s| (p.device, s)));
        let bytes = slots
            .clone()
            .fold(0u64, |n, (_, s)| n.saturating_add(s.bytes));
        for device in model.devices() {
            steps
                .queues
                .push(device.queue().map_err(|e| no_room(bytes, e))?);
        }
        for (i, device) in model.devices().iter().enumerate() {
            let own = slots.clone().filter(|(d, _)| *d == i);
            let own = own.fold(0u64, |n, (_, s)| n.saturating_add(s.bytes));
            let free = device.memory().free;
            if own > free {
                let out_of_memory = DeviceError::OutOfMemory {
                    device: device.name().to_string(),
                    what: "the KV cache".to_owned(),
                    requested: own,
                    free,
                };
                return Err(no_room(bytes, out_of_memory));
            }
        }
        for (i, slot) in slots {
            let (Some(device), Some(bound)) = (model.devices().get(i), steps.bindings.get_mut(i))
            else {
                continue;
            };
            let buffer = device.alloc_state(slot).map_err(|e| no_room(bytes, e))?;
            bound.insert(&slot.name, Arc::clone(&buffer));
            steps.states.push(StateInfo {
                name: slot.name.clone(),
                desc: slot.desc.clone(),
                memory: BufferSlice::whole(buffer),
                queue: i,
            });
        }
        Ok(steps)
    }

    /// The states, in the graph's order.
    pub(crate) fn states(&self) -> &[StateInfo] {
        &self.states
    }

    /// Reads bytes `start..` of a state, as many as `data` holds.
    pub(crate) fn read_state(
        &mut self,
        name: &str,
        start: u64,
        data: &mut [u8],
    ) -> Result<(), SessionError> {
        let (queue, memory) = self.state(name, start, data.len())?;
        Ok(queue.download(&memory, data)?)
    }

    /// Writes bytes `start..` of a state.
    pub(crate) fn write_state(
        &mut self,
        name: &str,
        start: u64,
        data: &[u8],
    ) -> Result<(), SessionError> {
        let (queue, memory) = self.state(name, start, data.len())?;
        Ok(queue.upload(&memory, data).map_err(ExecError::from)?)
    }

    fn state(
        &mut self,
        name: &str,
        start: u64,
        bytes: usize,
    ) -> Result<(&mut dyn Queue, BufferSlice), ExecError> {
        let state = self.states.iter().find(|s| s.name == name);
        let found = state.and_then(|s| Some((self.queues.get_mut(s.queue)?, &s.memory)));
        let Some((queue, memory)) = found else {
            return Err(ExecError::NoSuch {
                kind: "state",
                name: name.to_owned(),
                available: self.states.iter().map(|s| s.name.clone()).collect(),
            });
        };
        Ok((&mut **queue, memory.range(name, start, bytes as u64)?))
    }

    /// The executable for a step of exactly `n_tokens` tokens and `n_out` rows of logits.
    pub(crate) fn get(
        &mut self,
        n_tokens: usize,
        n_out: usize,
    ) -> Result<&mut SchedRunner, SessionError> {
        if let Some(i) = self
            .compiled
            .iter()
            .position(|(t, o, _)| (*t, *o) == (n_tokens, n_out))
        {
            // Decoding asks for the same step again and again: leave the order alone then.
            if i + 1 != self.compiled.len() {
                let step = self.compiled.remove(i);
                self.compiled.push(step);
            }
        } else {
            let runner = self.compile(n_tokens, n_out)?;
            // The one-token step is never dropped.
            if self.compiled.len() > KEPT + self.n_slots - 1
                && let Some(oldest) = self.compiled.iter().position(|(t, _, _)| *t != 1)
            {
                self.compiled.remove(oldest);
            }
            self.compiled.push((n_tokens, n_out, runner));
        }
        match self.compiled.last_mut() {
            Some((_, _, runner)) => Ok(runner),
            // Just pushed or moved there.
            None => Err(SessionError::EmptyPrompt),
        }
    }

    /// The plan of a step.
    pub(crate) fn plan(&self, n_tokens: usize, n_out: usize) -> Result<SchedPlan, SessionError> {
        let graph = self
            .graph
            .bind(&[(names::N_TOKENS, n_tokens), (names::N_OUT, n_out)])
            .map_err(|source| SessionError::Graph { n_tokens, source })?;
        SchedPlan::new(&graph, self.model.placement(), self.model.plan_options())
            .map_err(|source| SessionError::Plan { n_tokens, source })
    }

    fn compile(&self, n_tokens: usize, n_out: usize) -> Result<SchedRunner, SessionError> {
        let plan = self.plan(n_tokens, n_out)?;
        let cost = plan.cost();
        let (flops, bytes) = (cost.flops, cost.bytes);
        tracing::info!(n_tokens, n_out, flops, bytes, "step planned");
        for line in plan.summary().lines() {
            tracing::info!("  {line}");
        }
        tracing::debug!("{}", plan.explain());
        let file: Arc<dyn WeightFile> = Arc::clone(&self.model) as _;
        let mut runner = SchedRunner::new(
            self.model.devices(),
            &Arc::new(plan),
            &self.bindings,
            Some(file),
        )
        .map_err(|source| SessionError::Bind { n_tokens, source })?;
        runner.capture()?;
        Ok(runner)
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn buckets_waste_at_most_a_third_and_never_exceed_the_maximum() {
        for n in 1..=512 {
            let b = bucket(n, 512);
            assert!(b >= n && b <= 512);
            assert!(b == n || (b - n) * 3 <= b + 2, "{n} -> {b}");
        }
        assert_eq!(bucket(5, 512), 6);
        assert_eq!(bucket(300, 320), 320);
    }
}
