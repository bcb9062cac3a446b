//! From plans to the report's layers and weights: what lies where, by layer and role. It knows plans and no device.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ggrs_core::ops::{Leaf, Op};
use ggrs_core::plan::{Plan, Shards, Step};
use ggrs_core::{Graph, RoleKind, Sharding, ValueId};

use super::data::{Arrangement, CellReport, LayerReport, PartReport, WeightReport};
use super::of_plan::{PlannedStep, Rows};

/// A layer, or what is before or after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum LayerKey {
    Input,
    Layer(usize),
    Output,
}

impl LayerKey {
    pub(super) fn name(self) -> String {
        match self {
            Self::Input => "input".to_owned(),
            Self::Layer(n) => n.to_string(),
            Self::Output => "output".to_owned(),
        }
    }
}

/// For weights and states by name: their layer and role.
pub(super) struct Roles(HashMap<String, (LayerKey, RoleKind)>);

impl Roles {
    pub(super) fn of(steps: &[PlannedStep<'_>]) -> Self {
        let mut roles = HashMap::new();
        let parts = steps.iter().flat_map(|s| &s.plan.parts);
        for node in parts.flat_map(|p| p.plan.graph.nodes()) {
            let Op::Leaf(Leaf { role, .. }) = &node.op else {
                continue;
            };
            let layer = match (role.layer, role.kind) {
                (Some(layer), _) => LayerKey::Layer(layer),
                (None, RoleKind::Embedding) => LayerKey::Input,
                (None, _) => LayerKey::Output,
            };
            roles.insert(node.name.to_string(), (layer, role.kind));
        }
        Self(roles)
    }

    /// The layer of every step of a plan: that of the last weight, state or arriving value that was read. `arrivals`
    /// has the layers from which values arrive, by their tag.
    pub(super) fn layers(&self, plan: &Plan, arrivals: &HashMap<u32, LayerKey>) -> Vec<LayerKey> {
        let mut now = LayerKey::Input;
        let mut layers: Vec<LayerKey> = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let read = leaves_read(&plan.graph, step).filter_map(|name| self.known(name));
            // An embedding that is read again as the output head does not lead back.
            let read = read.map(|layer| match layer {
                LayerKey::Input if now != LayerKey::Input => LayerKey::Output,
                layer => layer,
            });
            let arrived = match &plan.graph.node(step.node).op {
                Op::Receive(receive) => arrivals.get(&receive.tag).copied(),
                _ => None,
            };
            now = read.chain(arrived).fold(now, LayerKey::max);
            layers.push(now);
        }
        // What arrives belongs to who wants it.
        let mut next = now;
        for (step, layer) in plan.steps.iter().zip(&mut layers).rev() {
            if matches!(plan.graph.node(step.node).op, Op::Receive(_)) {
                *layer = next;
            } else {
                next = *layer;
            }
        }
        layers
    }

    /// The layer of a weight or state; not that of inputs and constants.
    fn known(&self, name: &str) -> Option<LayerKey> {
        let (layer, _) = self.0.get(name)?;
        Some(*layer)
    }
}

/// Names of the weights and states that a step reads.
pub(super) fn leaves_read<'a>(graph: &'a Graph, step: &Step) -> impl Iterator<Item = &'a str> {
    let inputs = graph.node(step.node).inputs.iter();
    inputs.filter_map(|v| {
        let storage = graph.value(*v).storage;
        let node = graph.node(graph.value(storage).producer);
        match &node.op {
            Op::Leaf(leaf) if is_kept(leaf) => Some(&*node.name),
            _ => None,
        }
    })
}

/// Is it a weight or a state?
fn is_kept(leaf: &Leaf) -> bool {
    use ggrs_core::ops::LeafKind;
    matches!(leaf.kind, LeafKind::Weight | LeafKind::State)
}

/// A weight or state in a plan.
struct Slot<'a> {
    name: &'a str,
    value: ValueId,
    bytes: u64,
    sharding: Option<&'a Sharding>,
    /// Device and bytes.
    parts: Vec<PartReport>,
}

fn slot<'a, S>(
    name: &'a str,
    value: ValueId,
    bytes: u64,
    shards: Option<&'a Shards<S>>,
    row: usize,
    own: impl Fn(&S) -> u64,
) -> Slot<'a> {
    let parts = match shards {
        None => vec![PartReport { device: row, bytes }],
        Some(shards) => {
            let held = shards.members.iter().enumerate();
            let held = held.filter_map(|(i, s)| s.as_ref().map(|s| (row + 1 + i, own(s))));
            held.map(|(device, bytes)| PartReport { device, bytes })
                .collect()
        }
    };
    Slot {
        name,
        value,
        bytes,
        sharding: shards.map(|s| &s.sharding),
        parts,
    }
}

#[derive(Default)]
struct Cell {
    arrangement: Option<Arrangement>,
    parts: BTreeMap<usize, u64>,
    n_tensors: usize,
    kernels: BTreeSet<String>,
}

impl Cell {
    fn add(&mut self, slot: &Slot<'_>) {
        let one = match (slot.sharding, slot.parts.as_slice()) {
            (_, [_]) => Arrangement::Whole,
            (Some(Sharding::Replicated), _) => Arrangement::Replicated,
            _ => Arrangement::Split,
        };
        let is_new_place = match one {
            Arrangement::Whole => slot
                .parts
                .iter()
                .any(|p| !self.parts.contains_key(&p.device)),
            _ => false,
        };
        self.arrangement = Some(match self.arrangement {
            None => one,
            Some(before) if before == one && !is_new_place => one,
            Some(_) => Arrangement::Mixed,
        });
        for part in &slot.parts {
            *self.parts.entry(part.device).or_default() += part.bytes;
        }
        self.n_tensors += 1;
    }

    fn report(self, role: RoleKind) -> CellReport {
        let parts = self.parts.into_iter();
        CellReport {
            role: role.name().to_owned(),
            arrangement: self.arrangement.unwrap_or(Arrangement::Whole),
            parts: parts
                .map(|(device, bytes)| PartReport { device, bytes })
                .collect(),
            n_tensors: self.n_tensors,
            kernels: self.kernels.into_iter().collect(),
        }
    }
}

/// The layers with their cells, and all weights.
pub(super) fn placed(
    steps: &[PlannedStep<'_>],
    rows: &Rows,
    roles: &Roles,
) -> (Vec<LayerReport>, Vec<WeightReport>) {
    let mut layers: BTreeMap<LayerKey, BTreeMap<RoleKind, Cell>> = BTreeMap::new();
    let mut weights = Vec::new();
    let mut seen: HashSet<(usize, &str)> = HashSet::new();
    for part in steps.iter().flat_map(|s| &s.plan.parts) {
        let (plan, row) = (&*part.plan, rows.row(part.device));
        let of_weights = plan.weights.iter().map(|w| {
            slot(&w.name, w.value, w.bytes, w.shards.as_ref(), row, |s| {
                s.bytes
            })
        });
        let of_states = plan.states.iter().map(|w| {
            slot(&w.name, w.value, w.bytes, w.shards.as_ref(), row, |s| {
                s.bytes
            })
        });
        let n_weights = plan.weights.len();
        for (i, slot) in of_weights.chain(of_states).enumerate() {
            if !seen.insert((row, slot.name)) {
                continue;
            }
            if let Some((layer, kind)) = roles.0.get(slot.name) {
                let cells = layers.entry(*layer).or_default();
                cells.entry(*kind).or_default().add(&slot);
            }
            if i < n_weights {
                weights.push(weight(plan, &slot, i, row));
            }
        }
        for program in rows.programs(part) {
            let graph = &program.plan.graph;
            for step in &program.plan.steps {
                for name in leaves_read(graph, step) {
                    let key = roles.0.get(name);
                    let cell = key.and_then(|(l, k)| layers.get_mut(l)?.get_mut(k));
                    if let Some(cell) = cell.filter(|_| !step.is_exchange) {
                        cell.kernels.insert(step.route.kernel.to_string());
                    }
                }
            }
        }
    }
    let layers = layers.into_iter().map(|(key, cells)| LayerReport {
        name: key.name(),
        cells: cells.into_iter().map(|(role, c)| c.report(role)).collect(),
    });
    (layers.collect(), weights)
}

fn weight(plan: &Plan, slot: &Slot<'_>, i: usize, row: usize) -> WeightReport {
    let desc = plan.graph.desc(slot.value);
    let whole = plan.weights.get(i);
    let shards = whole.and_then(|w| w.shards.as_ref());
    let form = match shards {
        // The members' own forms; they may differ with the shapes of the parts.
        Some(shards) => {
            let forms = shards.members.iter().flatten().map(|w| w.form.name());
            let forms: BTreeSet<&str> = forms.collect();
            forms.into_iter().collect::<Vec<_>>().join(", ")
        }
        None => whole.map_or("", |w| w.form.name()).to_owned(),
    };
    WeightReport {
        name: slot.name.to_owned(),
        dtype: desc.dtype.to_string(),
        shape: desc.shape.sizes().to_vec(),
        device: row,
        form,
        split: slot.sharding.map(ToString::to_string).unwrap_or_default(),
        bytes: slot.bytes,
    }
}
