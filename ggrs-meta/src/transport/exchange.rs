//! What a transport is asked to do: one collective of a plan over memory of the members. It must not know how.

use ggrs_core::device::{BufferSlice, Queue, Route};
use ggrs_core::error::ShardError;
use ggrs_core::ops::{Collective, CollectiveKind, OpSpec};
use ggrs_core::{ExecError, Sharding, Split, TensorDesc};

use crate::ranges::RangeMap;

/// One collective with every member's memory.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(crate) op: &'static str,
    pub(crate) node: String,
    pub(crate) members: Vec<String>,
    kind: CollectiveKind,
    /// How the whole tensor lies over the members where it is cut: before a gather, after a scatter.
    cut: RangeMap,
    ins: Vec<Option<BufferSlice>>,
    outs: Vec<Option<BufferSlice>>,
}

impl Exchange {
    /// A collective of the node `node`. For each member its operand with its description, and its result with its own.
    ///
    /// # Errors
    /// A collective of other members, a cut that is not one of the tensor, memory that is not as long as its part.
    pub(crate) fn new(
        node: &str,
        collectives: &[&Collective],
        members: &[String],
        ins: Vec<(TensorDesc, BufferSlice)>,
        outs: Vec<(TensorDesc, BufferSlice)>,
    ) -> Result<Self, ShardError> {
        let n = members.len();
        let among = |found| ShardError::Members { expected: n, found };
        let first = collectives.first().ok_or_else(|| among(0))?;
        if collectives.len() != n || ins.len() != n || outs.len() != n {
            return Err(among(collectives.len().min(ins.len()).min(outs.len())));
        }
        if let Some(other) = collectives.iter().find(|c| c.members != n) {
            return Err(among(other.members));
        }
        // The cut axis and the descriptions of the whole and of the parts.
        let cut = match first.kind {
            CollectiveKind::AllReduce => None,
            CollectiveKind::AllGather { axis } => Some((axis, outs.first(), &ins)),
            CollectiveKind::ReduceScatter { axis } => Some((axis, ins.first(), &outs)),
        };
        let all = vec![true; n];
        let cut = match cut {
            None => RangeMap::replicated(bytes(ins.first()), &all),
            Some((axis, whole, parts)) => {
                let given = collectives.iter().find_map(|c| c.share.as_ref());
                let split = given.map_or_else(
                    || {
                        let size =
                            |(d, _): &(TensorDesc, _)| d.shape.dim(axis).map_or(0, |d| d.bound());
                        Split::by_sizes(axis, &parts.iter().map(size).collect::<Vec<_>>())
                    },
                    |share| share.split.on_axis(axis),
                );
                let whole = whole.map(|(desc, _)| desc.clone());
                let whole = whole.ok_or_else(|| among(0))?;
                RangeMap::new(&whole, &Sharding::Split(split), &all)?
            }
        };
        let exchange = Self {
            op: first.stem(),
            node: node.to_owned(),
            members: members.to_vec(),
            kind: first.kind,
            cut,
            ins: ins.into_iter().map(|(_, slice)| Some(slice)).collect(),
            outs: outs.into_iter().map(|(_, slice)| Some(slice)).collect(),
        };
        exchange.check()?;
        Ok(exchange)
    }

    /// Every member's memory must be as long as its part.
    fn check(&self) -> Result<(), ShardError> {
        let gathers = matches!(self.kind, CollectiveKind::AllGather { .. });
        let scatters = matches!(self.kind, CollectiveKind::ReduceScatter { .. });
        for (slices, is_cut) in [(&self.ins, gathers), (&self.outs, scatters)] {
            for (member, slice) in slices.iter().enumerate() {
                let part = self.cut.part_bytes(member);
                let expected = if is_cut { part } else { self.cut.bytes() } as u64;
                let found = slice.as_ref().map_or(0, |s| s.bytes);
                if found != expected {
                    let member = self.members.get(member).cloned().unwrap_or_default();
                    return Err(ShardError::PartBytes {
                        member,
                        expected,
                        found,
                    });
                }
            }
        }
        Ok(())
    }

    /// What is exchanged.
    pub const fn kind(&self) -> CollectiveKind {
        self.kind
    }

    /// Bytes of the whole tensor.
    pub const fn bytes(&self) -> usize {
        self.cut.bytes()
    }

    /// Where the whole tensor's bytes lie where it is cut: in the operands of a gather, in the results of a scatter.
    pub const fn cut(&self) -> &RangeMap {
        &self.cut
    }

    /// For each member its operand.
    pub fn ins(&self) -> &[Option<BufferSlice>] {
        &self.ins
    }

    /// For each member its result.
    pub fn outs(&self) -> &[Option<BufferSlice>] {
        &self.outs
    }
}

fn bytes(value: Option<&(TensorDesc, BufferSlice)>) -> usize {
    value.and_then(|(desc, _)| desc.bytes()).unwrap_or(0)
}

/// A way for members to exchange data.
pub trait Transport: Send + Sync {
    /// Its name in plans and messages.
    fn name(&self) -> &'static str;

    /// How plans describe it: the dtype on the wire, the order of sums.
    fn route(&self) -> Route;

    /// Host memory that it needs for a collective. It is there for the life of the executable.
    fn staging_bytes(&self, exchange: &Exchange) -> usize;

    /// Carries out a collective: every member's operand is complete, nobody reads the results yet. `queues` has one
    /// queue per member. When it returns, the results are complete.
    ///
    /// # Errors
    /// A member that fails. Results are then undefined, the members can be used again.
    fn exchange(
        &self,
        exchange: &Exchange,
        queues: &mut [Box<dyn Queue>],
        staging: &mut [u8],
    ) -> Result<(), ExecError>;
}
