//! Slots: what a plan wants from outside (weights, states, constants, inputs, outputs), and where every value's
//! storage lies.

use std::collections::HashMap;

use super::arena::Request;
use super::{ConstantSlot, IoSlot, Place, Region, StateSlot, WeightSlot};
use crate::device::{Device, Precision, WeightForm, WeightUse};
use crate::ops::LeafKind;
use crate::{DeviceIdx, Graph, TensorDesc, ValueId};

/// The one device of a plan that is not made of others.
pub(super) const DEVICE: DeviceIdx = DeviceIdx(0);

pub(super) fn storage_bytes(desc: &TensorDesc) -> u64 {
    desc.bytes().unwrap_or(0) as u64
}

/// The form of each weight. A weight that several ops read, or that is read through a view, must suit all of them:
/// the device is asked once with all its uses.
pub(super) fn weight_slots<D: Device + ?Sized>(
    graph: &Graph,
    device: &D,
    precision: Precision,
) -> Vec<WeightSlot> {
    let mut uses: HashMap<ValueId, Vec<WeightUse<'_>>> = HashMap::new();
    for node in graph.nodes() {
        for (operand, v) in node.inputs.iter().enumerate() {
            uses.entry(graph.value(*v).storage)
                .or_default()
                .push(WeightUse {
                    op: &node.op,
                    operand,
                });
        }
    }
    graph
        .leaves()
        .filter(|(_, kind, _)| **kind == LeafKind::Weight)
        .map(|(name, _, value)| {
            let desc = graph.desc(value).clone();
            // What is read back as an output must be as in the file.
            let is_output = graph
                .outputs()
                .any(|(_, v)| graph.value(v).storage == value);
            let uses = uses.get(&value).map_or(&[][..], Vec::as_slice);
            let form = if is_output {
                WeightForm::Native
            } else {
                device.weight_form(&desc, uses, precision)
            };
            let bytes = device.weight_bytes(&desc, form);
            WeightSlot {
                name: name.to_owned(),
                value,
                desc,
                form,
                bytes,
                device: DEVICE,
                shards: None,
            }
        })
        .collect()
}

fn leaves(graph: &Graph, wanted: fn(&LeafKind) -> bool) -> impl Iterator<Item = (&str, ValueId)> {
    let leaves = graph.leaves().filter(move |(_, kind, _)| wanted(kind));
    leaves.map(|(name, _, value)| (name, value))
}

/// Weights in the file's layout.
pub(super) fn native_weight_slots(graph: &Graph) -> Vec<WeightSlot> {
    leaves(graph, |kind| *kind == LeafKind::Weight)
        .map(|(name, value)| {
            let desc = graph.desc(value).clone();
            WeightSlot {
                name: name.to_owned(),
                value,
                bytes: storage_bytes(&desc),
                form: WeightForm::Native,
                desc,
                device: DEVICE,
                shards: None,
            }
        })
        .collect()
}

pub(super) fn state_slots(graph: &Graph) -> Vec<StateSlot> {
    leaves(graph, |kind| *kind == LeafKind::State)
        .map(|(name, value)| {
            let desc = graph.desc(value).clone();
            StateSlot {
                name: name.to_owned(),
                value,
                bytes: storage_bytes(&desc),
                desc,
                device: DEVICE,
                shards: None,
            }
        })
        .collect()
}

pub(super) fn constant_slots(graph: &Graph) -> Vec<ConstantSlot> {
    leaves(graph, |kind| matches!(kind, LeafKind::Constant(_)))
        .map(|(_, value)| ConstantSlot {
            value,
            node: graph.value(value).producer,
            bytes: storage_bytes(graph.desc(value)),
        })
        .collect()
}

fn io_slot(graph: &Graph, name: &str, value: ValueId) -> IoSlot {
    IoSlot {
        name: name.to_owned(),
        value,
        desc: graph.desc(value).clone(),
    }
}

pub(super) fn input_slots(graph: &Graph) -> Vec<IoSlot> {
    leaves(graph, |kind| *kind == LeafKind::Input)
        .map(|(name, value)| io_slot(graph, name, value))
        .collect()
}

pub(super) fn output_slots(graph: &Graph) -> Vec<IoSlot> {
    graph
        .outputs()
        .map(|(name, value)| io_slot(graph, name, value))
        .collect()
}

/// The place of every value: each storage has its own, each view its storage's.
pub(super) fn places(
    graph: &Graph,
    in_arena: impl Iterator<Item = (ValueId, u64, Request)>,
    weights: &[WeightSlot],
    states: &[StateSlot],
    constants: &[ConstantSlot],
) -> Vec<Place> {
    let at = |region, offset, bytes| Place {
        region,
        offset,
        bytes,
    };
    let mut storages: HashMap<ValueId, Place> = in_arena
        .map(|(value, offset, r)| (value, at(Region::Arena(DEVICE), offset, r.bytes)))
        .collect();
    let weights = weights.iter().enumerate();
    storages.extend(weights.map(|(i, w)| (w.value, at(Region::Weight(i), 0, w.bytes))));
    let states = states.iter().enumerate();
    storages.extend(states.map(|(i, s)| (s.value, at(Region::State(i), 0, s.bytes))));
    let constants = constants.iter().enumerate();
    storages.extend(constants.map(|(i, c)| (c.value, at(Region::Constant(i), 0, c.bytes))));
    let nowhere = at(Region::Arena(DEVICE), 0, 0);
    graph
        .values()
        .iter()
        .map(|v| storages.get(&v.storage).copied().unwrap_or(nowhere))
        .collect()
}
