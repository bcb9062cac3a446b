//! Matrix products of weights with activations. Results are F32.

use crate::ops::glu::GluKind;
use crate::ops::operands::{Operand, one};
use crate::ops::{OpSpec, Operands, Outputs, elems, number};
use crate::{DType, DTypeSet, Dim, OpError, Shape, TensorDesc};

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
}

/// Gate and up weights have one shape; their dtypes may differ.
pub(crate) fn same_weights(gate: Operand<'_>, up: Operand<'_>) -> Result<(), OpError> {
    up.rank(gate.desc.rank(), "as many axes as the gate weights")?;
    for i in 0..gate.desc.rank() {
        up.same(i, "axis size", gate.role, gate.from_end(i))?;
    }
    Ok(())
}
