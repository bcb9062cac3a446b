//! Buffers of a device made of several: a tensor's bytes over the members' memory. It must not know plans or ops.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::{Buffer, BufferSlice, BufferUse, Generation, WeightForm};
use ggrs_core::error::ShardError;
use ggrs_core::{DeviceError, Sharding, TensorDesc};

use crate::ranges::RangeMap;
use crate::transfer::Sharded;

/// What all parts of an open device share: who it is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The device, as the user names it.
    pub(crate) name: String,
    /// Its members, by number and name.
    pub(crate) members: Vec<String>,
}

impl Identity {
    /// A member's number and name.
    pub(crate) fn member(&self, member: usize) -> String {
        self.members.get(member).cloned().unwrap_or_default()
    }

    pub(crate) fn shard_error(&self, tensor: &str, source: ShardError) -> DeviceError {
        DeviceError::Shard {
            device: self.name.clone(),
            tensor: tensor.to_owned(),
            source,
        }
    }
}

/// Memory of a device made of several.
///
/// Its bytes are those of the tensor as if it were whole; where they lie is the business of the map.
pub(crate) struct MetaBuffer {
    owner: Arc<Identity>,
    /// The weight, state or value; for messages.
    pub(crate) tensor: String,
    /// How the tensor lies over the members.
    pub(crate) sharding: Sharding,
    map: RangeMap,
    parts: Vec<Option<BufferSlice>>,
    usage: BufferUse,
    /// If members keep a weight in a form of their own: its name.
    packed: Option<&'static str>,
    generation: Generation,
}

impl MetaBuffer {
    /// A tensor over members' parts; `None` for a member that keeps nothing of it.
    ///
    /// # Errors
    /// A cut that is not one of this tensor, a part that is smaller than its share.
    pub(crate) fn new(
        owner: &Arc<Identity>,
        tensor: &str,
        (desc, sharding): (&TensorDesc, &Sharding),
        parts: Vec<Option<BufferSlice>>,
        usage: BufferUse,
    ) -> Result<Self, DeviceError> {
        let keeps: Vec<bool> = parts.iter().map(Option::is_some).collect();
        let map = match sharding {
            // Whoever moves bytes of it is told why that cannot be.
            Sharding::Partial => RangeMap::replicated(desc.bytes().unwrap_or(0), &keeps),
            _ => RangeMap::new(desc, sharding, &keeps)
                .map_err(|source| owner.shard_error(tensor, source))?,
        };
        Self::over(owner, tensor, sharding.clone(), map, parts, usage)
    }

    /// Bytes that every member has.
    pub(crate) fn replicated(
        owner: &Arc<Identity>,
        tensor: &str,
        bytes: usize,
        parts: Vec<Option<BufferSlice>>,
        usage: BufferUse,
    ) -> Result<Self, DeviceError> {
        let map = RangeMap::replicated(bytes, &vec![true; parts.len()]);
        Self::over(owner, tensor, Sharding::Replicated, map, parts, usage)
    }

    fn over(
        owner: &Arc<Identity>,
        tensor: &str,
        sharding: Sharding,
        map: RangeMap,
        parts: Vec<Option<BufferSlice>>,
        usage: BufferUse,
    ) -> Result<Self, DeviceError> {
        let form = |part: &BufferSlice| match part.buffer.form() {
            WeightForm::Native => None,
            form => Some(form.name()),
        };
        let packed = parts.iter().flatten().find_map(form);
        for (member, part) in parts.iter().enumerate() {
            let (Some(part), None) = (part, packed) else {
                continue;
            };
            let share = map.part_bytes(member) as u64;
            if part.bytes < share {
                let source = ShardError::PartBytes {
                    member: owner.member(member),
                    expected: share,
                    found: part.bytes,
                };
                return Err(owner.shard_error(tensor, source));
            }
        }
        Ok(Self {
            owner: Arc::clone(owner),
            tensor: tensor.to_owned(),
            sharding,
            map,
            parts,
            usage,
            packed,
            generation: Generation::default(),
        })
    }

    /// A buffer as one of this device.
    pub(crate) fn of<'a>(
        owner: &Arc<Identity>,
        buffer: &'a dyn Buffer,
    ) -> Result<&'a Self, DeviceError> {
        let mine = buffer.as_any().downcast_ref::<Self>();
        match mine {
            Some(mine) if Arc::ptr_eq(&mine.owner, owner) => Ok(mine),
            other => Err(DeviceError::ForeignBuffer {
                device: owner.name.clone(),
                owner: match other {
                    None => "another device".to_owned(),
                    Some(b) if b.owner.name == owner.name => {
                        format!("another device made of {}", owner.name)
                    }
                    Some(b) => b.owner.name.clone(),
                },
            }),
        }
    }

    /// A member's part.
    pub(crate) fn part(&self, member: usize) -> Option<&BufferSlice> {
        self.parts.get(member)?.as_ref()
    }

    /// The tensor over the members' memory.
    pub(crate) fn sharded(&self) -> Sharded<'_> {
        Sharded {
            map: &self.map,
            parts: &self.parts,
        }
    }

    pub(crate) const fn map(&self) -> &RangeMap {
        &self.map
    }

    /// Partial sums have no bytes of their own, and neither has a weight that members keep in their own form.
    fn check_movable(&self) -> Result<(), DeviceError> {
        match (&self.sharding, self.packed) {
            (Sharding::Partial, _) => Err(self.error(ShardError::Partial)),
            (_, Some(form)) => Err(self.error(ShardError::Packed { form })),
            _ => Ok(()),
        }
    }

    /// Bytes that are on no member cannot be read.
    pub(crate) fn check_held(&self, range: &Range<usize>) -> Result<(), DeviceError> {
        if self.map.is_held(range) {
            return Ok(());
        }
        let (start, end) = (range.start, range.end);
        Err(self.error(ShardError::Unheld { start, end }))
    }

    fn error(&self, source: ShardError) -> DeviceError {
        self.owner.shard_error(&self.tensor, source)
    }
}

impl Buffer for MetaBuffer {
    fn bytes(&self) -> u64 {
        self.map.bytes() as u64
    }

    fn usage(&self) -> BufferUse {
        self.usage
    }

    fn generation(&self) -> &Generation {
        &self.generation
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The buffer of a slice and the slice's place in it, checked.
pub(crate) fn locate<'a>(
    owner: &Arc<Identity>,
    slice: &'a BufferSlice,
) -> Result<(&'a MetaBuffer, Range<usize>), DeviceError> {
    let buffer = MetaBuffer::of(owner, &*slice.buffer)?;
    let found = buffer.generation.now();
    if found != 0 {
        return Err(DeviceError::StaleBuffer {
            device: owner.name.clone(),
            expected: 0,
            found,
        });
    }
    buffer.check_movable()?;
    let range = slice.within(&owner.name, buffer.map.bytes())?;
    Ok((buffer, range))
}
