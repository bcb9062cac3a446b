//! Assignment: which device runs each node. Weights and states hold their readers; everything else goes where the
//! fewest bytes have to be copied. Deterministic: the same graph and placement give the same assignment.

use std::collections::HashMap;

use ggrs_core::device::{Device, Precision, RouteRequest, WeightForm};
use ggrs_core::ops::{Alias, LeafKind, Op};
use ggrs_core::{Graph, Node, NodeId, Unsupported, ValueId};
use smallvec::SmallVec;

use crate::SchedError;
use crate::placement::{Home, Placement};

/// Rounds over the nodes that nothing holds; chains settle in two or three.
const ROUNDS: usize = 8;

/// The device of every node.
pub(crate) struct Assignment {
    /// For each node, the device by index; leaves and views of leaves have none, they are wherever they are read.
    pub(crate) device: Vec<Option<usize>>,
    /// For nodes that did not go where the rule said: node, reason.
    pub(crate) notes: Vec<(NodeId, String)>,
    /// For each node why it is where it is.
    pub(crate) why: Vec<Why>,
}

/// Why a node runs where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It reads a leaf that lives there.
    Reads(ValueId),
    /// It writes in place over a value that was made there.
    InPlace,
    /// The expert bank it reads is copied to where the tokens are.
    Streams(ValueId),
    /// Fewest bytes copied.
    Nearest,
    /// Leaves and views.
    Follows,
}

impl Why {
    /// In words; none for what runs nothing.
    pub(crate) fn in_words(&self, homes: &HashMap<ValueId, &Home>) -> Option<String> {
        let home = |leaf| homes.get(leaf);
        match self {
            Self::Reads(leaf) => {
                home(leaf).map(|h| format!("reads {}, which lives here: {}", h.name, h.why))
            }
            Self::InPlace => Some("writes over what was made here".to_owned()),
            Self::Streams(bank) => {
                home(bank).map(|h| format!("{} is copied to the tokens", h.name))
            }
            Self::Nearest => Some("the fewest bytes are copied".to_owned()),
            Self::Follows => None,
        }
    }
}

struct Assigner<'a> {
    graph: &'a Graph,
    devices: &'a [std::sync::Arc<dyn Device>],
    names: Vec<String>,
    homes: HashMap<ValueId, &'a Home>,
    precision: Precision,
}

/// Assigns every node.
pub(crate) fn assign(
    graph: &Graph,
    placement: &Placement,
    homes: &[Home],
    precision: Precision,
) -> Result<Assignment, SchedError> {
    let assigner = Assigner {
        graph,
        devices: &placement.devices,
        names: placement.names(),
        homes: homes.iter().map(|h| (h.value, h)).collect(),
        precision,
    };
    assigner.run(placement)
}

impl Assigner<'_> {
    fn run(&self, placement: &Placement) -> Result<Assignment, SchedError> {
        let n = self.graph.nodes().len();
        let mut out = Assignment {
            device: vec![None; n],
            notes: Vec::new(),
            why: vec![Why::Follows; n],
        };
        let mut free = Vec::new();
        for (id, node) in self.graph.iter() {
            if matches!(node.op, Op::Leaf(_)) {
                continue;
            }
            if node.op.spec().alias() == Alias::View {
                // Views stand where their storage is made; views of leaves wherever they are read.
                out.device[id.index()] = self.producer_device(&out, node.inputs.first().copied());
                continue;
            }
            let held = self.holder(node, placement)?;
            let first = node
                .inputs
                .iter()
                .find_map(|v| self.producer_device(&out, Some(*v)));
            let (device, why) = match held {
                Held::At(device, why) => (device, why),
                Held::InPlace => (first.unwrap_or(0), Why::InPlace),
                Held::Free(Some(bank)) => {
                    free.push(id);
                    (first.unwrap_or(0), Why::Streams(bank))
                }
                Held::Free(None) => {
                    free.push(id);
                    (first.unwrap_or(0), Why::Nearest)
                }
            };
            let device = self.supported(id, node, device, &why, &mut out.notes)?;
            out.device[id.index()] = Some(device);
            out.why[id.index()] = why;
        }
        self.settle(&free, &mut out);
        Ok(out)
    }

    /// The device on which a value is made; `None` for leaves and views of leaves.
    fn producer_device(&self, out: &Assignment, value: Option<ValueId>) -> Option<usize> {
        let producer = self.graph.value(value?).producer;
        out.device.get(producer.index()).copied().flatten()
    }

    /// What holds a node to a device.
    fn holder(&self, node: &Node, placement: &Placement) -> Result<Held, SchedError> {
        let mut state: Option<&Home> = None;
        let mut weight: Option<(&Home, u64)> = None;
        for v in &node.inputs {
            let storage = self.graph.value(*v).storage;
            let Some(&home) = self.homes.get(&storage) else {
                continue;
            };
            if self.is_state(storage) {
                match state {
                    Some(first) if first.device != home.device => {
                        return Err(SchedError::TornStates {
                            op: node.op.spec().stem(),
                            node: node.name.to_string(),
                            first: first.name.clone(),
                            first_device: self.name(first.device),
                            second: home.name.clone(),
                            second_device: self.name(home.device),
                        });
                    }
                    _ => state = Some(home),
                }
            } else {
                let bytes = self.graph.desc(storage).bytes().unwrap_or(0) as u64;
                if weight.is_none_or(|(_, most)| bytes > most) {
                    weight = Some((home, bytes));
                }
            }
        }
        Ok(match (state, weight) {
            (Some(home), _) => Held::At(home.device, Why::Reads(home.value)),
            (None, Some((home, _))) if self.streams(node, placement) => {
                Held::Free(Some(home.value))
            }
            (None, Some((home, _))) => Held::At(home.device, Why::Reads(home.value)),
            (None, None) if node.op.spec().alias() == Alias::InPlace => Held::InPlace,
            (None, None) => Held::Free(None),
        })
    }

    /// Is an expert bank better copied to the tokens than the tokens to it?
    fn streams(&self, node: &Node, placement: &Placement) -> bool {
        let is_routed = matches!(node.op, Op::MatMulId(_) | Op::MatMulIdGlu(_));
        let rows = node
            .outputs
            .first()
            .and_then(|v| self.graph.desc(*v).shape.dim(0));
        let enough = |from: usize| rows.is_some_and(|n| n.bound() >= from);
        is_routed && placement.stream_experts_from.is_some_and(enough)
    }

    fn is_state(&self, value: ValueId) -> bool {
        let producer = self.graph.node(self.graph.value(value).producer);
        matches!(&producer.op, Op::Leaf(l) if l.kind == LeafKind::State)
    }

    fn name(&self, device: usize) -> String {
        self.names.get(device).cloned().unwrap_or_default()
    }

    fn route(&self, node: &Node, device: usize) -> Result<(), Unsupported> {
        let Some(device) = self.devices.get(device) else {
            return Ok(());
        };
        if node.op.is_exchange() {
            return Ok(());
        }
        let (inputs, outputs) = self.graph.io(node);
        let is_weight = |v: &ValueId| {
            let storage = self.graph.value(*v).storage;
            let held = self.homes.contains_key(&storage) && !self.is_state(storage);
            held.then_some(WeightForm::Native)
        };
        let forms: SmallVec<[Option<WeightForm>; 4]> = node.inputs.iter().map(is_weight).collect();
        let request = RouteRequest {
            op: &node.op,
            inputs: &inputs,
            forms: &forms,
            outputs: &outputs,
            precision: self.precision,
        };
        device.route(&request).map(|_| ())
    }

    /// `wanted`, if it can run the node; another device if the node may move.
    fn supported(
        &self,
        id: NodeId,
        node: &Node,
        wanted: usize,
        why: &Why,
        notes: &mut Vec<(NodeId, String)>,
    ) -> Result<usize, SchedError> {
        let Err(refused) = self.route(node, wanted) else {
            return Ok(wanted);
        };
        let others = (0..self.devices.len()).filter(|d| *d != wanted);
        let able: Vec<usize> = others.filter(|d| self.route(node, *d).is_ok()).collect();
        let stuck = match why {
            Why::Reads(leaf) => self
                .homes
                .get(leaf)
                .filter(|h| h.is_pinned || self.is_state(*leaf)),
            _ => None,
        };
        let op = node.op.spec().stem();
        if let Some(home) = stuck {
            return Err(SchedError::Stuck {
                op,
                node: node.name.to_string(),
                leaf: home.name.clone(),
                origin: home.why.clone(),
                device: self.name(wanted),
                able: able.iter().map(|d| self.name(*d)).collect(),
                source: refused,
            });
        }
        match able.first() {
            Some(device) if *why != Why::InPlace => {
                let from = self.name(wanted);
                notes.push((id, format!("not on {from}: {refused}")));
                Ok(*device)
            }
            _ => {
                let refusals = (0..self.devices.len())
                    .filter_map(|d| Some((self.name(d), self.route(node, d).err()?)));
                Err(SchedError::Nowhere {
                    op,
                    node: node.name.to_string(),
                    refusals: refusals.collect(),
                })
            }
        }
    }

    /// Moves the nodes that nothing holds to where the fewest bytes are copied, until none moves.
    fn settle(&self, free: &[NodeId], out: &mut Assignment) {
        let users = self.graph.users();
        for round in 0..ROUNDS {
            let mut moved = false;
            // Alternating directions let a chain move from either end in one round.
            let order: Box<dyn Iterator<Item = &NodeId>> = if round % 2 == 0 {
                Box::new(free.iter().rev())
            } else {
                Box::new(free.iter())
            };
            for id in order {
                let node = self.graph.node(*id);
                let now = out.device[id.index()].unwrap_or(0);
                let mut candidates: SmallVec<[usize; 4]> = SmallVec::from_elem(now, 1);
                let operands = node
                    .inputs
                    .iter()
                    .filter_map(|v| self.producer_device(out, Some(*v)));
                candidates.extend(operands);
                candidates.extend(self.readers(&users, node, out).map(|(_, d)| d));
                let cost = |device: usize| self.copied(node, device, &users, out);
                let best = candidates.iter().map(|d| (cost(*d), *d != now, *d)).min();
                if let Some((_, true, device)) = best
                    && self.route(node, device).is_ok()
                {
                    out.device[id.index()] = Some(device);
                    self.follow(node, device, &users, out);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Views of a node's results move with it.
    fn follow(
        &self,
        node: &Node,
        device: usize,
        users: &[SmallVec<[NodeId; 4]>],
        out: &mut Assignment,
    ) {
        for v in &node.outputs {
            for user in users.get(v.index()).into_iter().flatten() {
                let reader = self.graph.node(*user);
                if reader.op.spec().alias() == Alias::View {
                    out.device[user.index()] = Some(device);
                    self.follow(reader, device, users, out);
                }
            }
        }
    }

    /// The nodes that read a node's results, through views, with the value each reads and its device.
    fn readers<'b>(
        &'b self,
        users: &'b [SmallVec<[NodeId; 4]>],
        node: &'b Node,
        out: &'b Assignment,
    ) -> Box<dyn Iterator<Item = (ValueId, usize)> + 'b> {
        Box::new(node.outputs.iter().flat_map(move |v| {
            let readers = users.get(v.index()).into_iter().flatten();
            readers.flat_map(move |user| {
                let reader = self.graph.node(*user);
                if reader.op.spec().alias() == Alias::View {
                    return self.readers(users, reader, out);
                }
                let device = out.device.get(user.index()).copied().flatten();
                Box::new(device.map(|d| (*v, d)).into_iter())
            })
        }))
    }

    /// Bytes copied if the node ran on `device`.
    fn copied(
        &self,
        node: &Node,
        device: usize,
        users: &[SmallVec<[NodeId; 4]>],
        out: &Assignment,
    ) -> u64 {
        let bytes = |v: ValueId| self.graph.desc(v).bytes().unwrap_or(0) as u64;
        let mut operands: SmallVec<[ValueId; 4]> = SmallVec::new();
        for v in &node.inputs {
            let home = self.producer_device(out, Some(*v));
            if home.is_some_and(|d| d != device) && !operands.contains(v) {
                operands.push(*v);
            }
        }
        let mut results: SmallVec<[(ValueId, usize); 4]> = SmallVec::new();
        for read in self.readers(users, node, out) {
            if read.1 != device && !results.contains(&read) {
                results.push(read);
            }
        }
        let operands: u64 = operands.iter().map(|v| bytes(*v)).sum();
        operands + results.iter().map(|(v, _)| bytes(*v)).sum::<u64>()
    }
}

/// What holds a node.
enum Held {
    /// A leaf on this device.
    At(usize, Why),
    /// The storage it writes.
    InPlace,
    /// Nothing; an expert bank is streamed if there is one.
    Free(Option<ValueId>),
}
