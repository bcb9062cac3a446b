//! Communication between the members of a meta device, as explicit nodes of each member's graph.

use crate::ops::operands::{multiple, one};
use crate::ops::{OpSpec, Operands, Outputs};
use crate::{DType, DTypeSet, Dim, OpError, TensorDesc};

/// What the members exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollectiveKind {
    /// Every member gets the sum of all members' tensors.
    AllReduce,
    /// Every member gets all members' tensors joined along the axis, in member order.
    AllGather {
        /// The axis that grows.
        axis: usize,
    },
    /// Member i gets part i of the sum, cut evenly along the axis.
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
        let x = x.dtype(DTypeSet::F32)?.contiguous()?;
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
        let size = match self.kind {
            CollectiveKind::ReduceScatter { .. } => {
                multiple(
                    "size of the axis",
                    dim,
                    "the number of members",
                    self.members,
                )?;
                size / self.members
            }
            _ => size.saturating_mul(self.members),
        };
        one(DType::F32, shape.with(axis, size))
    }

    fn flops(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        match self.kind {
            CollectiveKind::AllGather { .. } => 0.0,
            _ => {
                ins.first().map_or(0.0, |x| super::elems(x))
                    * super::number(Some(self.members.saturating_sub(1)))
            }
        }
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("members", self.members.to_string())]
    }
}
