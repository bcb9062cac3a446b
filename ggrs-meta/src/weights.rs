//! Weights and states over members: cutting a weight's bytes, and putting them together again. It must not know plans
//! beyond their slots, nor in which form a member keeps its part.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{Buffer, BufferSlice, BufferUse, Device, WeightSource};
use ggrs_core::plan::{Shards, StateSlot, WeightSlot};
use ggrs_core::{DeviceError, Sharding, TensorDesc};

use crate::buffer::{Identity, MetaBuffer};
use crate::ranges::RangeMap;

type Members = [Arc<dyn Device>];

/// Gives every member its part of a weight. A part that lies without a gap in the file is handed on as it is.
pub(crate) fn load(
    owner: &Arc<Identity>,
    members: &Members,
    slot: &WeightSlot,
    source: WeightSource<'_>,
) -> Result<MetaBuffer, DeviceError> {
    let expected = slot.desc.bytes().unwrap_or(0) as u64;
    let got = source.bytes.len() as u64;
    if got != expected {
        return Err(DeviceError::WeightBytes {
            device: owner.name.clone(),
            weight: slot.name.clone(),
            expected,
            got,
        });
    }
    let shards = shards_of(owner, &slot.name, slot.shards.as_ref(), members)?;
    let map = map_of(
        owner,
        &slot.name,
        (&slot.desc, &shards.sharding),
        members.len(),
    )?;
    let mut parts = Vec::with_capacity(members.len());
    for (member, (device, own)) in members.iter().zip(&shards.members).enumerate() {
        let Some(own) = own else {
            parts.push(None);
            continue;
        };
        let gathered;
        let mut runs = map.held(member, 0..map.bytes());
        let part = match (runs.next(), runs.next()) {
            (None, _) => WeightSource {
                bytes: &[],
                owner: None,
            },
            (Some(run), None) => WeightSource {
                bytes: within(source.bytes, run.logical..run.logical + run.bytes),
                owner: source.owner.clone(),
            },
            _ => {
                gathered = gather(owner, &slot.name, &map, member, source.bytes)?;
                WeightSource {
                    bytes: &gathered,
                    owner: None,
                }
            }
        };
        let buffer = device.load_weight(own, part)?;
        parts.push(Some(BufferSlice::whole(buffer)));
    }
    let lies = (&slot.desc, &shards.sharding);
    MetaBuffer::new(owner, &slot.name, lies, parts, BufferUse::Weights)
}

/// The bytes of a weight as they stand in the file.
pub(crate) fn read(
    owner: &Arc<Identity>,
    members: &Members,
    slot: &WeightSlot,
    buffer: &dyn Buffer,
) -> Result<Vec<u8>, DeviceError> {
    let buffer = MetaBuffer::of(owner, buffer)?;
    let shards = shards_of(owner, &slot.name, slot.shards.as_ref(), members)?;
    let map = buffer.map();
    let all = 0..map.bytes();
    buffer.check_held(&all)?;
    let mut bytes = memory(owner, &slot.name, map.bytes())?;
    for (member, (device, own)) in members.iter().zip(&shards.members).enumerate() {
        let (Some(own), Some(part)) = (own, buffer.part(member)) else {
            continue;
        };
        let mut runs = map.answered(member, all.clone()).peekable();
        if runs.peek().is_none() {
            continue;
        }
        let part = device.read_weight(own, &*part.buffer)?;
        for run in runs {
            let from = part.get(run.at..run.at + run.bytes);
            let to = bytes.get_mut(run.logical..run.logical + run.bytes);
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
    }
    Ok(bytes)
}

/// Memory for a state on every member that holds some of it, whether or not this plan's member uses it.
pub(crate) fn alloc_state(
    owner: &Arc<Identity>,
    members: &Members,
    slot: &StateSlot,
) -> Result<MetaBuffer, DeviceError> {
    let shards = shards_of(owner, &slot.name, slot.shards.as_ref(), members)?;
    let lies = (&slot.desc, &shards.sharding);
    let map = map_of(owner, &slot.name, lies, members.len())?;
    let mut parts = Vec::with_capacity(members.len());
    for (member, (device, own)) in members.iter().zip(&shards.members).enumerate() {
        let buffer = match (own, map.part_bytes(member)) {
            (Some(own), _) => Some(device.alloc_state(own)?),
            (None, 0) => None,
            (None, n_bytes) => Some(device.alloc(n_bytes as u64, BufferUse::State)?),
        };
        parts.push(buffer.map(BufferSlice::whole));
    }
    MetaBuffer::new(owner, &slot.name, lies, parts, BufferUse::State)
}

/// How a leaf lies over the members; it must be of a plan for as many members.
fn shards_of<'a, S>(
    owner: &Identity,
    name: &str,
    shards: Option<&'a Shards<S>>,
    members: &Members,
) -> Result<&'a Shards<S>, DeviceError> {
    match shards {
        Some(shards) if shards.members.len() == members.len() => Ok(shards),
        shards => {
            let found = shards.map_or(1, |s| s.members.len());
            let expected = members.len();
            let source = ggrs_core::error::ShardError::Members { expected, found };
            Err(owner.shard_error(name, source))
        }
    }
}

fn map_of(
    owner: &Identity,
    name: &str,
    (desc, sharding): (&TensorDesc, &Sharding),
    n_members: usize,
) -> Result<RangeMap, DeviceError> {
    RangeMap::new(desc, sharding, &vec![true; n_members])
        .map_err(|source| owner.shard_error(name, source))
}

fn within(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// A member's part of a weight's bytes, one run behind the other.
fn gather(
    owner: &Identity,
    name: &str,
    map: &RangeMap,
    member: usize,
    bytes: &[u8],
) -> Result<Vec<u8>, DeviceError> {
    let mut part = memory(owner, name, map.part_bytes(member))?;
    for run in map.held(member, 0..map.bytes()) {
        if let Some(to) = part.get_mut(run.at..run.at + run.bytes) {
            to.copy_from_slice(within(bytes, run.logical..run.logical + run.bytes));
        }
    }
    Ok(part)
}

/// Zeroed host memory.
fn memory(owner: &Identity, name: &str, n_bytes: usize) -> Result<Vec<u8>, DeviceError> {
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(n_bytes);
    reserved.map_err(|_| DeviceError::OutOfMemory {
        device: owner.name.clone(),
        what: format!("host memory for weight \"{name}\""),
        requested: n_bytes as u64,
        free: 0,
    })?;
    bytes.resize(n_bytes, 0);
    Ok(bytes)
}
