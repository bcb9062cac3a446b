//! Norms over the last axis. Sums are in F32 or wider; results have the dtype of `x`.

use crate::ops::operands::{Operand, fresh, not_negative, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems};
use crate::{DTypeSet, OpError, Real, Sharding, TensorDesc};

/// A weight over the last axis of `x`: F32 `[width]`.
fn weight(w: Operand<'_>, x: Operand<'_>) -> Result<(), OpError> {
    w.dtype(DTypeSet::F32)?
        .contiguous()?
        .vector("width", x.role, x.from_end(0))?;
    Ok(())
}

fn input(x: Operand<'_>) -> Result<Operand<'_>, OpError> {
    x.dtype(DTypeSet::Float)?
        .min_rank(1, "at least 1 axis [.., width]")?
        .rows()
}

/// The first `n` operands, all of one shape, in the first cut among them that leaves rows whole; the rest whole.
fn rows_and_weight(ins: &[SplitOperand<'_>], n: usize, n_outputs: usize) -> SplitRule {
    let Some(cut) = ins.iter().take(n).find_map(SplitOperand::cut_of_rows) else {
        return SplitRule::replicated(ins.len(), n_outputs);
    };
    let mut rule = SplitRule::replicated(ins.len(), n_outputs);
    for sharding in rule.inputs.iter_mut().take(n).chain(&mut rule.outputs) {
        *sharding = Sharding::Split(cut.clone());
    }
    rule
}

/// `x / sqrt(mean(x^2) + eps)`, times a weight `[width]` if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: Real,
    /// Is there a weight operand?
    pub weighted: bool,
}

impl OpSpec for RmsNorm {
    fn stem(&self) -> &'static str {
        "rms_norm"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x", "weight"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        not_negative("eps", self.eps.0)?;
        let x = if self.weighted {
            let [x, w] = ins.exactly()?;
            weight(w, x)?;
            input(x)?
        } else {
            let [x] = ins.exactly()?;
            input(x)?
        };
        one(x.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        4.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("eps", self.eps.to_string())]
    }

    /// Row by row; the weight whole.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        rows_and_weight(ins, 1, outs.len())
    }
}

/// Two outputs: `sum = a + b` and `rms_norm(sum) * weight`. What the add+norm fusion makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddRmsNorm {
    /// Added to the mean square.
    pub eps: Real,
}

impl OpSpec for AddRmsNorm {
    fn stem(&self) -> &'static str {
        "add_rms_norm"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["a", "b", "weight"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        not_negative("eps", self.eps.0)?;
        let [a, b, w] = ins.exactly()?;
        let a = input(a)?;
        input(b)?
            .dtype(DTypeSet::One(a.desc.dtype))?
            .rank(a.desc.rank(), "as many axes as a")?;
        for i in 0..a.desc.rank() {
            b.same(i, "axis size", a.role, a.from_end(i))?;
        }
        weight(w, a)?;
        let out = fresh(a.desc.dtype, a.shape().clone())?;
        Ok(Outputs::from_iter([out.clone(), out]))
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        5.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("eps", self.eps.to_string())]
    }

    /// Row by row, the same cut in both operands; the weight whole.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        rows_and_weight(ins, 2, outs.len())
    }
}

/// `(x - mean(x)) / sqrt(var(x) + eps)`; weight and bias, where wanted, are a mul and an add.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: Real,
}

impl OpSpec for LayerNorm {
    fn stem(&self) -> &'static str {
        "layer_norm"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        not_negative("eps", self.eps.0)?;
        let [x] = ins.exactly()?;
        let x = input(x)?;
        one(x.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        6.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("eps", self.eps.to_string())]
    }

    /// Row by row.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        SplitRule::by_rows(ins, outs.len())
    }
}

/// `x / max(sqrt(sum(x^2)), eps)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct L2Norm {
    /// The smallest divisor.
    pub eps: Real,
}

impl OpSpec for L2Norm {
    fn stem(&self) -> &'static str {
        "l2_norm"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        not_negative("eps", self.eps.0)?;
        let [x] = ins.exactly()?;
        let x = input(x)?;
        one(x.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        3.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("eps", self.eps.to_string())]
    }

    /// Row by row.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        SplitRule::by_rows(ins, outs.len())
    }
}
