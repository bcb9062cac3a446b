//! A small graph with the bytes of its leaves, on any placement: planned, bound, run. It knows no scenario.

use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, BufferUse, Device, Precision, WeightSource};
use ggrs_core::ops::{LeafKind, Op};
use ggrs_core::plan::{PlanOptions, WeightSlot};
use ggrs_core::{BindError, DType, DeviceError, Graph, Sharding};
use ggrs_sched::{Placement, SchedError, SchedPlan, SchedRunner};
use ggrs_tests::oracle::decode_ints;
use ggrs_tests::placed::cpu_members;
use ggrs_tests::random::RandomInputs;

/// Bytes behind every state that nobody may write.
const CANARY: [u8; 64] = [0xa5; 64];

/// A graph and what its leaves hold.
#[derive(Clone)]
pub(crate) struct Scene {
    /// The graph.
    pub(crate) graph: Graph,
    /// Bytes of weights, inputs and states by name; a state without any starts as zeros.
    pub(crate) data: BTreeMap<String, Vec<u8>>,
}

/// Values of outputs by name; integers as floats.
pub(crate) type Answers = BTreeMap<String, Vec<f32>>;

/// Exact arithmetic, the passes of a model.
pub(crate) fn exact() -> PlanOptions {
    PlanOptions {
        precision: Precision::Exact,
        ..PlanOptions::default()
    }
}

impl Scene {
    /// The graph with random weights and inputs, the same ones for equal names. Integers are the scene's to give.
    pub(crate) fn new(graph: Graph) -> Self {
        let mut data = BTreeMap::new();
        for node in graph.nodes() {
            let Op::Leaf(leaf) = &node.op else { continue };
            let is_given = matches!(leaf.kind, LeafKind::Weight | LeafKind::Input);
            if is_given && !leaf.desc.dtype.is_int() {
                let mut seed = DefaultHasher::new();
                node.name.hash(&mut seed);
                let n_elems = leaf.desc.shape.elems().unwrap();
                let mut random = RandomInputs::new(seed.finish());
                let bytes = random.weights(leaf.desc.dtype, n_elems, 0.3);
                data.insert(node.name.to_string(), bytes);
            }
        }
        Self { graph, data }
    }

    /// With these integers in an input.
    pub(crate) fn ints(mut self, name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        let bytes = values.into_iter().flat_map(|v| (v as i32).to_le_bytes());
        self.data.insert(name.to_owned(), bytes.collect());
        self
    }

    /// The plan on a placement.
    pub(crate) fn plan(&self, placement: &Placement) -> Result<Arc<SchedPlan>, SchedError> {
        SchedPlan::new(&self.graph, placement, &exact()).map(Arc::new)
    }

    /// Weights loaded and states written on a placement's devices, as a plan wants them.
    pub(crate) fn bind(
        &self,
        placement: &Placement,
        plan: &SchedPlan,
    ) -> Result<Vec<Bindings>, DeviceError> {
        let mut all = vec![Bindings::new(); placement.devices.len()];
        for part in &plan.parts {
            let (device, bound) = (&placement.devices[part.device], &mut all[part.device]);
            for slot in &part.plan.weights {
                let source = WeightSource {
                    bytes: &self.data[&slot.name],
                    owner: None,
                };
                bound.insert(&slot.name, device.load_weight(slot, source)?);
            }
            for slot in &part.plan.states {
                let state = if slot.shards.is_some() {
                    device.alloc_state(slot)?
                } else {
                    device.alloc(slot.bytes + CANARY.len() as u64, BufferUse::State)?
                };
                let mut queue = device.queue()?;
                let whole = BufferSlice::whole(Arc::clone(&state));
                if let Some(bytes) = self.data.get(&slot.name) {
                    queue.upload(&whole.range("", 0, slot.bytes)?, bytes)?;
                }
                if slot.shards.is_none() {
                    let canary = whole.range("", slot.bytes, CANARY.len() as u64)?;
                    queue.upload(&canary, &CANARY)?;
                }
                bound.insert(&slot.name, state);
            }
        }
        Ok(all)
    }

    /// Sets the inputs, runs, reads the outputs.
    pub(crate) fn run(&self, runner: &mut SchedRunner) -> Result<Answers, Box<dyn Error>> {
        for node in self.graph.nodes() {
            if let Op::Leaf(leaf) = &node.op
                && leaf.kind == LeafKind::Input
            {
                runner.set(&node.name, &self.data[&*node.name])?;
            }
        }
        runner.run()?;
        let outputs = self.graph.outputs().map(|(name, value)| {
            let desc = self.graph.desc(value);
            let bytes = runner.get(name)?;
            let values = if desc.dtype.is_int() {
                let ints = decode_ints(desc.dtype, desc.shape.sizes().as_slice(), &bytes);
                ints.data.iter().map(|i| *i as f32).collect()
            } else {
                floats(&bytes)
            };
            Ok((name.to_string(), values))
        });
        outputs.collect()
    }

    /// Plan, load and run once on a placement.
    pub(crate) fn answer(&self, placement: &Placement) -> Result<Answers, Box<dyn Error>> {
        let plan = self.plan(placement)?;
        let bindings = self.bind(placement, &plan)?;
        let mut runner = SchedRunner::new(&placement.devices, &plan, &bindings, None)?;
        let answers = self.run(&mut runner)?;
        canaries_live(placement, &plan, &bindings);
        Ok(answers)
    }

    /// What one CPU device answers.
    pub(crate) fn expected(&self) -> Answers {
        let one = Placement::on(cpu_members(1).remove(0));
        self.answer(&one).expect("one device runs it")
    }
}

/// F32 values of little-endian bytes.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    words.iter().map(|w| f32::from_le_bytes(*w)).collect()
}

/// A runner over buffers that are there already.
pub(crate) fn runner(
    placement: &Placement,
    plan: &Arc<SchedPlan>,
    bindings: &[Bindings],
) -> Result<SchedRunner, BindError> {
    SchedRunner::new(&placement.devices, plan, bindings, None)
}

/// The bytes behind the states are as they were.
pub(crate) fn canaries_live(placement: &Placement, plan: &SchedPlan, bindings: &[Bindings]) {
    for part in &plan.parts {
        let device: &Arc<dyn Device> = &placement.devices[part.device];
        for slot in part.plan.states.iter().filter(|s| s.shards.is_none()) {
            let buffer = bindings[part.device].get(&slot.name).unwrap();
            let whole = BufferSlice::whole(Arc::clone(buffer));
            let canary = whole.range("", slot.bytes, CANARY.len() as u64).unwrap();
            let mut bytes = [0; CANARY.len()];
            device
                .queue()
                .unwrap()
                .download(&canary, &mut bytes)
                .unwrap();
            assert_eq!(bytes, CANARY, "behind {}", slot.name);
        }
    }
}

/// Normalised mean square error of all outputs; every one must be there and be more than zeros.
pub(crate) fn distance(actual: &Answers, expected: &Answers) -> f64 {
    assert!(actual.keys().eq(expected.keys()), "other outputs");
    let errors = expected.iter().map(|(name, e)| {
        assert!(
            e.iter().any(|v| *v != 0.0),
            "{name} tests nothing: it is all 0"
        );
        ggrs_tests::placed::nmse(&actual[name], e)
    });
    errors.fold(
        0.0,
        |worst, error| if error <= worst { worst } else { error },
    )
}

/// A placement gives what one CPU device gives.
pub(crate) fn same_as_one(scene: &Scene, placement: &Placement, what: &str) {
    let answers = scene.answer(placement);
    let answers = answers.unwrap_or_else(|e| panic!("{what}: {}", text(&*e)));
    let error = distance(&answers, &scene.expected());
    assert!(error <= 1e-10, "{what}: NMSE {error:e}");
}

/// A device made of several gives what one CPU device gives, and does it with weights that are really cut.
pub(crate) fn same_as_one_when_split(scene: &Scene, placement: &Placement, what: &str) {
    let plan = scene.plan(placement);
    let plan = plan.unwrap_or_else(|e| panic!("{what}: {}", text(&e)));
    assert!(n_split(&plan) > 0, "{what}: no weight is split");
    same_as_one(scene, placement, what);
}

/// Weights that are cut over members.
pub(crate) fn n_split(plan: &SchedPlan) -> usize {
    let weights = plan.parts.iter().flat_map(|p| &p.plan.weights);
    let is_split = |s: &WeightSlot| {
        let shards = s.shards.as_ref();
        shards.is_some_and(|s| matches!(s.sharding, Sharding::Split(_)))
    };
    weights.filter(|w| is_split(w)).count()
}

/// An error with its causes.
pub(crate) fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The message says all of this.
pub(crate) fn says(error: &(dyn Error + 'static), parts: &[&str]) {
    let text = text(error);
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is not in: {text}");
    }
}

/// Bytes of a tensor.
pub(crate) fn n_bytes(dtype: DType, shape: &[usize]) -> usize {
    dtype.row_bytes(shape.iter().product()).unwrap()
}
