//! Plans of devices made of several: one plan per member under one that stands for the whole.

use std::collections::HashMap;
use std::sync::Arc;

use super::slots::{self, DEVICE};
use super::{Plan, PlanParts, StateSlot, Step, WeightSlot};
use crate::device::{Precision, Route};
use crate::ops::{Alias, Op};
use crate::{Graph, Sharding, ValueId};

/// How a weight or state lies over the members of a device, with the members' own slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Shards<S> {
    /// How it lies.
    pub sharding: Sharding,
    /// Each member's slot; `None` for one that holds nothing of it.
    pub members: Vec<Option<S>>,
}

/// Bytes that a plan takes on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeviceBytes {
    /// The device, as the user names it.
    pub device: String,
    /// Weights.
    pub weights: u64,
    /// Values between runs.
    pub states: u64,
    /// Values of one run.
    pub arena: u64,
    /// Constants.
    pub constants: u64,
}

impl DeviceBytes {
    /// All of it.
    pub const fn total(&self) -> u64 {
        self.weights + self.states + self.arena + self.constants
    }
}

/// For each member its slots by name.
fn by_name<'a, S>(
    members: &'a [Arc<Plan>],
    slots: impl Fn(&'a Plan) -> HashMap<&'a str, &'a S>,
) -> Vec<HashMap<&'a str, &'a S>> {
    members.iter().map(|m| slots(m)).collect()
}

/// The members' slots of one weight or state. What every member holds whole is held by all of them, whoever reads it in
/// this plan: in another plan over the same memory it may be others.
fn shards<S: Clone>(sharding: Sharding, own: &[HashMap<&str, &S>], name: &str) -> Shards<S> {
    let own = own.iter().map(|m| m.get(name).map(|s| (*s).clone()));
    let mut members: Vec<Option<S>> = own.collect();
    if sharding == Sharding::Replicated
        && let Some(any) = members.iter().flatten().next().cloned()
    {
        for missing in members.iter_mut().filter(|m| m.is_none()) {
            *missing = Some(any.clone());
        }
    }
    Shards { sharding, members }
}

impl PlanParts {
    /// A plan over members' plans of the same graph: `shardings` says for each value of `graph` how it lies.
    ///
    /// Steps stand for what all members do together; which member does what stands in the members' plans.
    pub fn of_members(
        graph: &Arc<Graph>,
        precision: Precision,
        members: Vec<Arc<Plan>>,
        shardings: Vec<Sharding>,
    ) -> Self {
        let lies = |value: ValueId| shardings.get(value.index()).cloned().unwrap_or_default();
        let mut weights = slots::native_weight_slots(graph);
        let own = by_name(&members, |m| {
            m.weights.iter().map(|w| (&*w.name, w)).collect()
        });
        for slot in &mut weights {
            let shards = shards(lies(slot.value), &own, &slot.name);
            slot.bytes = shards.members.iter().flatten().map(|w| w.bytes).sum();
            slot.shards = Some(shards);
        }
        let mut states = slots::state_slots(graph);
        let own = by_name(&members, |m| {
            m.states.iter().map(|s| (&*s.name, s)).collect()
        });
        for slot in &mut states {
            let shards = shards(lies(slot.value), &own, &slot.name);
            slot.bytes = shards.members.iter().flatten().map(|s| s.bytes).sum();
            slot.shards = Some(shards);
        }
        let steps = graph
            .iter()
            .filter(|(_, n)| !matches!(n.op, Op::Leaf(_)) && n.op.spec().alias() != Alias::View);
        let steps = steps.map(|(id, node)| {
            let lies = node
                .outputs
                .iter()
                .map(|v| shardings.get(v.index()).cloned());
            let lies: Vec<String> = lies.flatten().map(|s| s.to_string()).collect();
            let is_exchange = matches!(node.op, Op::Send(_) | Op::Receive(_));
            let route = Route {
                kernel: if is_exchange {
                    node.op.spec().stem()
                } else {
                    "members"
                }
                .into(),
                reason: lies.join("; ").into(),
                scratch_bytes: 0,
            };
            Step {
                node: id,
                device: DEVICE,
                route,
                is_exchange,
                scratch_offset: 0,
            }
        });
        Self {
            graph: Arc::clone(graph),
            precision,
            devices: members.iter().flat_map(|m| m.devices.clone()).collect(),
            steps: steps.collect(),
            places: slots::places(graph, std::iter::empty(), &weights, &states, &[]),
            arenas: members.iter().flat_map(|m| m.arenas.clone()).collect(),
            weights,
            states,
            inputs: slots::input_slots(graph),
            outputs: slots::output_slots(graph),
            constants: Vec::new(),
            passes: Vec::new(),
            members,
            shardings,
            collectives: Vec::new(),
        }
    }
}

fn of_member<S>(shards: &Option<Shards<S>>, member: usize) -> Option<&S> {
    shards.as_ref()?.members.get(member)?.as_ref()
}

impl Plan {
    /// The slot of the weight of this name.
    pub fn weight(&self, name: &str) -> Option<&WeightSlot> {
        self.weights.iter().find(|w| w.name == name)
    }

    /// The slot of the state of this name.
    pub fn state(&self, name: &str) -> Option<&StateSlot> {
        self.states.iter().find(|s| s.name == name)
    }

    /// Bytes on each device; for a device made of several, on each member.
    pub fn device_bytes(&self) -> Vec<DeviceBytes> {
        if !self.members.is_empty() {
            let mut all: Vec<DeviceBytes> =
                self.members.iter().flat_map(|m| m.device_bytes()).collect();
            for (i, bytes) in all.iter_mut().enumerate() {
                let weights = self.weights.iter().filter_map(|w| of_member(&w.shards, i));
                bytes.weights = weights.map(|w| w.bytes).sum();
                let states = self.states.iter().filter_map(|s| of_member(&s.shards, i));
                bytes.states = states.map(|s| s.bytes).sum();
            }
            return all;
        }
        vec![DeviceBytes {
            device: self.devices.join("+"),
            weights: self.weights.iter().map(|w| w.bytes).sum(),
            states: self.states.iter().map(|s| s.bytes).sum(),
            arena: self.arenas.iter().sum(),
            constants: self.constants.iter().map(|c| c.bytes).sum(),
        }]
    }
}
