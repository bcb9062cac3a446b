//! Sums and means along one axis, running sums along the last.

use crate::ops::operands::one;
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems};
use crate::{DType, DTypeSet, OpError, Sharding, TensorDesc};

/// What is made of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceKind {
    /// The sum.
    Sum,
    /// The mean.
    Mean,
}

/// Sum or mean along `axis`, which stays with size 1. F32.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// Sum or mean.
    pub kind: ReduceKind,
    /// The axis.
    pub axis: usize,
}

impl OpSpec for Reduce {
    fn stem(&self) -> &'static str {
        match self.kind {
            ReduceKind::Sum => "sum",
            ReduceKind::Mean => "mean",
        }
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let x = x.dtype(DTypeSet::F32)?;
        match x.shape().dim(self.axis) {
            None => Err(OpError::Axis {
                role: x.role,
                axis: self.axis,
                shape: x.shape().clone(),
            }),
            Some(d) if d.fixed() == Some(0) && self.kind == ReduceKind::Mean => {
                Err(OpError::Param {
                    name: "size of the axis",
                    got: 0.0,
                    rule: "at least 1 for a mean",
                })
            }
            Some(_) => one(DType::F32, x.shape().clone().with(self.axis, 1)),
        }
    }

    fn flops(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        ins.first().map_or(0.0, |x| elems(x))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("axis", self.axis.to_string())]
    }

    /// A cut of another axis passes. Sums of the parts of the axis are partial sums; partial sums stay such.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [x] = ins else { return replicated };
        match x.sharding {
            Sharding::Partial => SplitRule::passed(&Sharding::Partial, 1),
            Sharding::Split(s) if s.axis() != self.axis => SplitRule::passed(x.sharding, 1),
            Sharding::Split(s) if self.kind == ReduceKind::Sum && s.is_disjoint() => {
                SplitRule::new([x.sharding.clone()], [Sharding::Partial])
            }
            _ => replicated,
        }
    }
}

/// Running sum along the last axis. F32.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CumSum;

impl OpSpec for CumSum {
    fn stem(&self) -> &'static str {
        "cumsum"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let x = x
            .dtype(DTypeSet::F32)?
            .min_rank(1, "at least 1 axis")?
            .rows()?;
        one(DType::F32, x.shape().clone())
    }

    /// Row by row; partial sums stay such.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        SplitRule::summed(ins).unwrap_or_else(|| SplitRule::by_rows(ins, outs.len()))
    }
}
