//! Buckets: the token counts for which executables are compiled. A step of fewer tokens runs padded.

use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, Queue};
use ggrs_core::{DeviceError, ExecError, Graph, TensorDesc};
use ggrs_sched::{SchedPlan, SchedRunner, WeightFile};

use crate::arch::StepShape;
use crate::blocks::names;
use crate::error::{ModelError, SessionError};
use crate::model::Model;
use crate::step::Step;

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

/// How many executables are kept besides those of one token; for every further slot one more, since a step may decode
/// for any number of them.
pub(crate) const KEPT: usize = 3;

/// What a step is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepSize {
    /// Tokens that the host gives, and rows of logits for it.
    Feed {
        /// Tokens.
        n_tokens: usize,
        /// Rows of logits.
        n_out: usize,
    },
    /// One token of each of so many sequences, and the next ones chosen on the device.
    Decode {
        /// Sequences.
        n_sequences: usize,
    },
}

impl StepSize {
    /// Tokens of the step.
    pub(crate) const fn n_tokens(self) -> usize {
        match self {
            Self::Feed { n_tokens, .. } => n_tokens,
            Self::Decode { n_sequences } => n_sequences,
        }
    }
}

/// Compiled steps over one set of weights and states.
pub(crate) struct Steps {
    model: Arc<Model>,
    shape: StepShape,
    /// The graph of a step that the host feeds.
    graph: Graph,
    /// For each device of the placement, weights and states.
    bindings: Vec<Bindings>,
    /// One per device of the placement, for the states' own transfers.
    queues: Vec<Box<dyn Queue>>,
    states: Vec<StateInfo>,
    /// The last used at the end.
    compiled: Vec<(StepSize, Step)>,
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
        shape: StepShape,
        no_room: impl Fn(u64, DeviceError) -> SessionError,
    ) -> Result<Self, SessionError> {
        let mut steps = Self {
            model: Arc::clone(model),
            graph: graph(model, &shape)?,
            shape,
            bindings: model.weights().to_vec(),
            queues: Vec::new(),
            states: Vec::new(),
            compiled: Vec::new(),
        };
        let plan = steps.plan(StepSize::Feed {
            n_tokens: 1,
            n_out: 1,
        })?;
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

    /// The executable for a step of exactly this size.
    pub(crate) fn get(&mut self, size: StepSize) -> Result<&mut Step, SessionError> {
        if let Some(i) = self.compiled.iter().position(|(s, _)| *s == size) {
            // Decoding asks for the same step again and again: leave the order alone then.
            if i + 1 != self.compiled.len() {
                let step = self.compiled.remove(i);
                self.compiled.push(step);
            }
        } else {
            let step = self.compile(size)?;
            // Steps of one token are never dropped.
            if self.compiled.len() + 1 > KEPT + self.shape.n_slots.max(1)
                && let Some(oldest) = self.compiled.iter().position(|(s, _)| s.n_tokens() != 1)
            {
                self.compiled.remove(oldest);
            }
            self.compiled.push((size, step));
        }
        match self.compiled.last_mut() {
            Some((_, step)) => Ok(step),
            // Just pushed or moved there.
            None => Err(SessionError::EmptyPrompt),
        }
    }

    /// The plan of a step.
    fn plan(&self, size: StepSize) -> Result<SchedPlan, SessionError> {
        let n_tokens = size.n_tokens();
        let graph = match size {
            StepSize::Feed { n_out, .. } => self
                .graph
                .bind(&[(names::N_TOKENS, n_tokens), (names::N_OUT, n_out)])
                .map_err(|source| SessionError::Graph { n_tokens, source })?,
            StepSize::Decode { n_sequences } => {
                let decode = Some(n_sequences);
                let shape = StepShape {
                    decode,
                    ..self.shape
                };
                graph(&self.model, &shape)?
            }
        };
        SchedPlan::new(&graph, self.model.placement(), self.model.plan_options())
            .map_err(|source| SessionError::Plan { n_tokens, source })
    }

    fn compile(&self, size: StepSize) -> Result<Step, SessionError> {
        let n_tokens = size.n_tokens();
        let plan = self.plan(size)?;
        let cost = plan.cost();
        let (flops, bytes) = (cost.flops, cost.bytes);
        tracing::info!(?size, flops, bytes, "step planned");
        for line in plan.summary().lines() {
            tracing::info!("  {line}");
        }
        tracing::debug!("{}", plan.explain());
        let bind = |source| SessionError::Bind { n_tokens, source };
        let bindings = self.with_own_states(&plan);
        let bindings = bindings.map_err(|source| bind(source.into()))?;
        let file: Arc<dyn WeightFile> = Arc::clone(&self.model) as _;
        let devices = self.model.devices();
        let runner = SchedRunner::new(devices, &Arc::new(plan), &bindings, Some(file));
        let mut runner = runner.map_err(bind)?;
        runner.capture()?;
        Ok(Step::new(runner))
    }

    /// The bindings, and memory for the states that only this step has.
    fn with_own_states(&self, plan: &SchedPlan) -> Result<Vec<Bindings>, DeviceError> {
        let mut bindings = self.bindings.clone();
        for part in &plan.parts {
            let device = self.model.devices().get(part.device);
            let (Some(device), Some(bound)) = (device, bindings.get_mut(part.device)) else {
                continue;
            };
            for slot in &part.plan.states {
                if bound.get(&slot.name).is_none() {
                    bound.insert(&slot.name, device.alloc_state(slot)?);
                }
            }
        }
        Ok(bindings)
    }
}

/// The graph of a step.
fn graph(model: &Model, shape: &StepShape) -> Result<Graph, SessionError> {
    model.graph(shape).map_err(|e| match e {
        ModelError::Graph(source) => SessionError::Graph {
            n_tokens: shape.decode.unwrap_or(shape.max_tokens),
            source,
        },
        // The file was read once already; nothing else can fail now.
        _ => SessionError::Lacks {
            what: "weights that it had when it was loaded",
            way_out: "load it again",
        },
    })
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
