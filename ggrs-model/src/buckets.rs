//! Buckets: the token counts for which executables are compiled. A step of fewer tokens runs padded.

use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, BufferUse, Device, Queue, Runner};
use ggrs_core::ops::LeafKind;
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DeviceError, ExecError, Graph, TensorDesc};

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

/// How many executables are kept besides that of one token.
const KEPT: usize = 3;

/// Compiled steps over one set of weights and states.
pub(crate) struct Steps {
    graph: Graph,
    device: Arc<dyn Device>,
    queue: Box<dyn Queue>,
    options: PlanOptions,
    bindings: Bindings,
    states: Vec<StateInfo>,
    /// Tokens, rows of logits, executable; the last used at the end.
    compiled: Vec<(usize, usize, Runner)>,
}

/// A state as the model sees it, whatever devices hold it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StateInfo {
    /// Its name in the graph.
    pub(crate) name: String,
    /// What it is as a whole.
    pub(crate) desc: TensorDesc,
}

impl Steps {
    /// Allocates the states of a model's graph. `no_room` makes the error of memory that is not there, given the bytes
    /// of all states.
    pub(crate) fn new(
        model: &Model,
        graph: Graph,
        no_room: impl Fn(u64, DeviceError) -> SessionError,
    ) -> Result<Self, SessionError> {
        let device = Arc::clone(model.device());
        let states: Vec<StateInfo> = graph
            .leaves()
            .filter(|(_, kind, _)| **kind == LeafKind::State)
            .map(|(name, _, value)| StateInfo {
                name: name.to_owned(),
                desc: graph.desc(value).clone(),
            })
            .collect();
        let bytes_of = |s: &StateInfo| s.desc.bytes().unwrap_or(usize::MAX) as u64;
        let bytes = states
            .iter()
            .fold(0u64, |n, s| n.saturating_add(bytes_of(s)));
        let free = device.memory().free;
        if bytes > free {
            let out_of_memory = DeviceError::OutOfMemory {
                device: device.info().name.to_string(),
                what: "the KV cache".to_owned(),
                requested: bytes,
                free,
            };
            return Err(no_room(bytes, out_of_memory));
        }
        let mut bindings = model.weights().clone();
        for state in &states {
            let buffer = device.alloc(bytes_of(state), BufferUse::State);
            bindings.insert(&state.name, buffer.map_err(|e| no_room(bytes, e))?);
        }
        let queue = device.queue().map_err(|e| no_room(bytes, e))?;
        Ok(Self {
            graph,
            device,
            queue,
            options: model.plan_options().clone(),
            bindings,
            states,
            compiled: Vec::new(),
        })
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
        let slice = self.state_slice(name, start, data.len())?;
        Ok(self.queue.download(&slice, data)?)
    }

    /// Writes bytes `start..` of a state.
    pub(crate) fn write_state(
        &mut self,
        name: &str,
        start: u64,
        data: &[u8],
    ) -> Result<(), SessionError> {
        let slice = self.state_slice(name, start, data.len())?;
        Ok(self.queue.upload(&slice, data).map_err(ExecError::from)?)
    }

    fn state_slice(
        &self,
        name: &str,
        start: u64,
        bytes: usize,
    ) -> Result<BufferSlice, SessionError> {
        let Some(buffer) = self.bindings.get(name) else {
            return Err(ExecError::NoSuch {
                kind: "state",
                name: name.to_owned(),
                available: self.states.iter().map(|s| s.name.clone()).collect(),
            }
            .into());
        };
        let device = self.device.info().name.to_string();
        let whole = BufferSlice::whole(Arc::clone(buffer));
        Ok(whole
            .range(&device, start, bytes as u64)
            .map_err(ExecError::from)?)
    }

    /// The executable for a step of exactly `n_tokens` tokens and `n_out` rows of logits.
    pub(crate) fn get(
        &mut self,
        n_tokens: usize,
        n_out: usize,
    ) -> Result<&mut Runner, SessionError> {
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
            if self.compiled.len() > KEPT
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

    fn compile(&self, n_tokens: usize, n_out: usize) -> Result<Runner, SessionError> {
        let graph = self
            .graph
            .bind(&[(names::N_TOKENS, n_tokens), (names::N_OUT, n_out)])
            .map_err(|source| SessionError::Graph { n_tokens, source })?;
        let plan = plan(&graph, &*self.device, &self.options)
            .map_err(|source| SessionError::Plan { n_tokens, source })?;
        let cost = plan.cost();
        let (steps, arena) = (plan.steps.len(), plan.arenas.iter().sum::<u64>());
        tracing::info!(
            n_tokens,
            n_out,
            steps,
            arena,
            flops = cost.flops,
            bytes = cost.bytes,
            "step planned"
        );
        tracing::trace!("{}", plan.explain());
        let mut runner = Runner::new(&*self.device, &Arc::new(plan), &self.bindings)
            .map_err(|source| SessionError::Bind { n_tokens, source })?;
        runner.executable().capture()?;
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
