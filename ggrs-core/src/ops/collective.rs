//! Communication between the members of a meta device, as explicit nodes of each member's graph.

use crate::ops::operands::{multiple, one};
use crate::ops::{OpSpec, Operands, Outputs, number};
use crate::shard::Split;
use crate::{DType, DTypeSet, Dim, OpError, TensorDesc};

/// What the members exchange. Cuts are even and in member order, unless a [`Share`] says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollectiveKind {
    /// Every member gets the sum of all members' tensors.
    AllReduce,
    /// Every member gets all members' tensors joined along the axis, in member order.
    AllGather {
        /// The axis that grows.
        axis: usize,
    },
    /// Member i gets part i of the sum, cut along the axis.
    ReduceScatter {
        /// The axis that shrinks.
        axis: usize,
    },
}

/// A collective over `members` devices. With one member it is a copy; a single device refuses more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collective {
    /// What is exchanged.
    pub kind: CollectiveKind,
    /// How many members take part; at least 1.
    pub members: usize,
    /// An uneven cut, and this member's place in it; without one, the cut is even.
    pub share: Option<Share>,
}

/// A member's place in an uneven cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// Which member this is.
    pub member: usize,
    /// Who holds what of the axis; as many members as the collective has.
    pub split: Split,
}

impl Collective {
    /// A collective whose cut is even.
    pub const fn even(kind: CollectiveKind, members: usize) -> Self {
        Self {
            kind,
            members,
            share: None,
        }
    }

    /// Size of the cut axis after the exchange, for a tensor that has `size` along it.
    fn size_after(&self, size: usize) -> Result<usize, OpError> {
        let gathers = matches!(self.kind, CollectiveKind::AllGather { .. });
        let Some(Share { member, split }) = &self.share else {
            if gathers {
                return Ok(size.saturating_mul(self.members));
            }
            let dim = Dim::Fixed(size);
            multiple(
                "size of the axis",
                dim,
                "the number of members",
                self.members,
            )?;
            return Ok(size / self.members.max(1));
        };
        let whole = split.parts().iter().flatten().map(|r| r.end).max();
        let (whole, own) = (whole.unwrap_or(0), split.len(*member));
        let (before, after) = if gathers { (own, whole) } else { (whole, own) };
        if size != before || split.members() != self.members {
            return Err(OpError::Param {
                name: "share",
                got: number(Some(size)),
                rule: "the size that the member's share of the cut has",
            });
        }
        Ok(after)
    }
}

impl OpSpec for Collective {
    fn stem(&self) -> &'static str {
        match self.kind {
            CollectiveKind::AllReduce => "all_reduce",
            CollectiveKind::AllGather { .. } => "all_gather",
            CollectiveKind::ReduceScatter { .. } => "reduce_scatter",
        }
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        // Sums are of floats; ids are gathered too.
        let x = match self.kind {
            CollectiveKind::AllGather { .. } if x.desc.dtype == DType::I32 => x.contiguous()?,
            _ => x.dtype(DTypeSet::F32)?.contiguous()?,
        };
        let dtype = x.desc.dtype;
        if self.members == 0 {
            return Err(OpError::Param {
                name: "members",
                got: 0.0,
                rule: "at least 1",
            });
        }
        let shape = x.shape().clone();
        let (CollectiveKind::AllGather { axis } | CollectiveKind::ReduceScatter { axis }) =
            self.kind
        else {
            return one(DType::F32, shape);
        };
        let dim = shape.dim(axis).ok_or_else(|| OpError::Axis {
            role: x.role,
            axis,
            shape: shape.clone(),
        })?;
        let Dim::Fixed(size) = dim else {
            return Err(OpError::Symbolic {
                role: x.role,
                axis,
                dim,
                why: "members split only axes of a fixed size",
            });
        };
        let size = self.size_after(size)?;
        one(dtype, shape.with(axis, size))
    }

    fn flops(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        match self.kind {
            CollectiveKind::AllGather { .. } => 0.0,
            _ => {
                ins.first().map_or(0.0, |x| super::elems(x))
                    * number(Some(self.members.saturating_sub(1)))
            }
        }
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("members", self.members.to_string())]
    }
}
