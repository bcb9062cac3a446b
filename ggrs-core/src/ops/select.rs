//! Ops that order: the k largest, the sorting order, the position of the largest. A NaN is a fault of the run.

use crate::ops::operands::{Operand, fresh, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule};
use crate::{DType, DTypeSet, OpError, Split, TensorDesc};

fn rows(x: Operand<'_>) -> Result<usize, OpError> {
    let x = x
        .dtype(DTypeSet::F32)?
        .min_rank(1, "at least 1 axis")?
        .rows()?;
    x.fixed_from_end(0, "the width of a row that is ordered must be fixed")
}

/// Row by row, or of parts of rows in member order.
fn of_rows_or_parts(ins: &[SplitOperand<'_>], n_outputs: usize) -> SplitRule {
    let mut rule = SplitRule::by_rows(ins, n_outputs);
    if let ([x], [input]) = (ins, rule.inputs.as_mut_slice())
        && x.cut_from_end(0).is_some_and(Split::is_plain)
    {
        *input = x.sharding.clone();
    }
    rule
}

/// The `k` largest of each row `[.., n]`: values F32 `[.., k]` and positions I32 `[.., k]`, largest first, ties by
/// lower position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopK {
    /// How many.
    pub k: usize,
}

impl OpSpec for TopK {
    fn stem(&self) -> &'static str {
        "top_k"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let width = rows(x)?;
        if self.k == 0 || self.k > width {
            return Err(OpError::TooLarge {
                what: "k",
                got: self.k,
                max: width,
            });
        }
        let shape = x.shape().clone().with(x.desc.rank() - 1, self.k);
        Ok(Outputs::from_iter([
            fresh(DType::F32, shape.clone())?,
            fresh(DType::I32, shape)?,
        ]))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("k", self.k.to_string())]
    }

    /// Row by row. A plain cut of the rows themselves is asked for as it is: whoever partitions takes the largest of
    /// the members' largest, which every member then has.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        of_rows_or_parts(ins, outs.len())
    }
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortOrder {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Positions I32 `[.., n]` that sort each row; stable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Argsort {
    /// Direction.
    pub order: SortOrder,
}

impl OpSpec for Argsort {
    fn stem(&self) -> &'static str {
        "argsort"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        rows(x)?;
        one(DType::I32, x.shape().clone())
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("order", format!("{:?}", self.order))]
    }

    /// Row by row.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        SplitRule::by_rows(ins, outs.len())
    }
}

/// Position I32 `[..]` of the largest of each row `[.., n]`; the first if several are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Argmax;

impl OpSpec for Argmax {
    fn stem(&self) -> &'static str {
        "argmax"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        if rows(x)? == 0 {
            return Err(OpError::Param {
                name: "row width",
                got: 0.0,
                rule: "at least 1",
            });
        }
        one(DType::I32, x.shape().clone().without(x.desc.rank() - 1))
    }

    /// As for the k largest.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        of_rows_or_parts(ins, outs.len())
    }
}
