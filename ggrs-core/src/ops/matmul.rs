//! Matrix products of weights with activations. Results are F32.

use crate::ops::glu::GluKind;
use crate::ops::movement::keeps_blocks;
use crate::ops::operands::{Operand, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems, number};
use crate::{DType, DTypeSet, Dim, OpError, Shape, Sharding, Split, TensorDesc};

/// `x @ weights^T`: weights `[batch.., m, k]`, x `[batch.., n, k]` -> F32 `[batch.., n, m]`.
///
/// Each batch axis of the weights must divide that of `x` (aligned at the last); batch `i` of `x` reads batch
/// `i / (x / weights)` of the weights, so grouped heads share theirs. Weights may be any float or block format.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatMul;

fn product(weights: Operand<'_>, x: Operand<'_>) -> Result<Shape, OpError> {
    let weights = weights
        .dtype(DTypeSet::Weights)?
        .min_rank(2, "at least 2 axes [.., m, k]")?
        .rows()?;
    let x = x
        .dtype(DTypeSet::Float)?
        .min_rank(2, "at least 2 axes [.., n, k]")?
        .rows()?;
    x.same(0, "inner size k", weights.role, weights.from_end(0))?;
    if weights.desc.rank() > x.desc.rank() {
        return Err(OpError::Rank {
            role: x.role,
            got: x.shape().clone(),
            expected: "at least as many axes as the weights",
        });
    }
    for i in 2..weights.desc.rank() {
        let (w, b) = (weights.from_end(i), x.from_end(i));
        let divides = match (w, b) {
            (Dim::Fixed(w), Dim::Fixed(b)) => w != 0 && b % w == 0,
            (w, b) => w == b || w == Dim::Fixed(1),
        };
        if !divides {
            return Err(OpError::NotMultiple {
                what: "batch size of x",
                got: b,
                of_what: "that of the weights",
                of: w.bound(),
            });
        }
    }
    let rank = x.desc.rank();
    Ok(x.shape().clone().with(rank - 1, weights.from_end(1)))
}

fn product_rule(weights: &SplitOperand<'_>, x: &SplitOperand<'_>) -> SplitRule {
    let whole = Sharding::Replicated;
    let rank = x.desc.rank();
    let on_x = |cut: &Split, from_end: usize| {
        Sharding::Split(cut.on_axis(rank.saturating_sub(from_end + 1)))
    };
    // The axis counted from the last, and how many batches of x share one of the weights.
    let from_end = |o: &SplitOperand<'_>, cut: &Split| o.desc.rank().saturating_sub(cut.axis() + 1);
    let batches = |o: &SplitOperand<'_>, i: usize| {
        let axis = o.desc.rank().checked_sub(i + 1);
        axis.and_then(|a| o.desc.shape.dim(a)).map_or(1, Dim::bound)
    };
    let shared = |i: usize| batches(x, i) / batches(weights, i).max(1);
    let rule = |w: Sharding, x: Sharding, out: Sharding| SplitRule::new([w, x], [out]);
    match (weights.sharding, x.sharding) {
        (Sharding::Split(cut), _) => match from_end(weights, cut) {
            0 if cut.is_disjoint() => {
                rule(weights.sharding.clone(), on_x(cut, 0), Sharding::Partial)
            }
            0 => SplitRule::replicated(2, 1),
            1 => rule(weights.sharding.clone(), whole, on_x(cut, 0)),
            i => {
                let of_x = on_x(&cut.times(shared(i)), i);
                rule(weights.sharding.clone(), of_x.clone(), of_x)
            }
        },
        (Sharding::Replicated, Sharding::Split(cut)) => match from_end(x, cut) {
            0 if cut.is_disjoint() && keeps_blocks(x, weights.desc.dtype) => {
                let last = weights.desc.rank().saturating_sub(1);
                let of_weights = Sharding::Split(cut.on_axis(last));
                rule(of_weights, x.sharding.clone(), Sharding::Partial)
            }
            0 => SplitRule::replicated(2, 1),
            i if i == 1 || batches(weights, i) == 1 => {
                rule(whole, x.sharding.clone(), x.sharding.clone())
            }
            i => match (cut.over(shared(i)), weights.desc.rank().checked_sub(i + 1)) {
                (Some(cut), Some(axis)) => {
                    let of_weights = Sharding::Split(cut.on_axis(axis));
                    rule(of_weights, x.sharding.clone(), x.sharding.clone())
                }
                _ => SplitRule::replicated(2, 1),
            },
        },
        _ => SplitRule::replicated(2, 1),
    }
}

impl OpSpec for MatMul {
    fn stem(&self) -> &'static str {
        "matmul"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["weights", "x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [weights, x] = ins.exactly()?;
        one(DType::F32, product(weights, x)?)
    }

    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        let k = ins
            .first()
            .map_or(0.0, |w| number(Some(w.shape.last().bound())));
        2.0 * k * outs.first().map_or(0.0, |o| elems(o))
    }

    /// Weights cut along m give cut results; along k, with `x` alike, sums; along a batch axis, cut batches. Of whole
    /// weights, every member takes those that its part of `x` meets.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        match ins {
            [weights, x] => product_rule(weights, x),
            _ => SplitRule::replicated(ins.len(), outs.len()),
        }
    }
}

/// `activation(x @ gate^T) * (x @ up^T)`: what the gate/up fusion makes of two products and a gated linear unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatMulGlu {
    /// The activation.
    pub kind: GluKind,
}

impl OpSpec for MatMulGlu {
    fn stem(&self) -> &'static str {
        "matmul_glu"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["gate weights", "up weights", "x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [gate, up, x] = ins.exactly()?;
        let shape = product(gate, x)?;
        product(up, x)?;
        same_weights(gate, up)?;
        one(DType::F32, shape)
    }

    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        2.0 * MatMul.flops(ins, outs)
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("kind", self.kind.stem().to_owned())]
    }

    /// As for one product, both weights cut alike, but never along k: the gate needs the whole sum.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [gate, up, x] = ins else {
            return replicated;
        };
        let weights = if gate.split().is_some() { gate } else { up };
        let rule = product_rule(weights, x);
        match (rule.inputs.as_slice(), rule.outputs.as_slice()) {
            (_, [Sharding::Partial]) => replicated,
            ([weights, x], [_]) => SplitRule::new(
                [weights.clone(), weights.clone(), x.clone()],
                rule.outputs.clone(),
            ),
            _ => replicated,
        }
    }
}

/// Gate and up weights have one shape; their dtypes may differ.
pub(crate) fn same_weights(gate: Operand<'_>, up: Operand<'_>) -> Result<(), OpError> {
    up.rank(gate.desc.rank(), "as many axes as the gate weights")?;
    for i in 0..gate.desc.rank() {
        up.same(i, "axis size", gate.role, gate.from_end(i))?;
    }
    Ok(())
}
