//! Elementwise ops. Results have the dtype of the first operand; arithmetic is in F32.

use crate::ops::operands::{broadcast, finite, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems};
use crate::{DType, DTypeSet, OpError, Real, Sharding, TensorDesc};

/// Which arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryKind {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a * b.
    Mul,
    /// a / b.
    Div,
}

/// `lhs (op) rhs` with broadcast: axes are aligned at the last one and must be equal or 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binary {
    /// Which arithmetic.
    pub kind: BinaryKind,
}

impl OpSpec for Binary {
    fn stem(&self) -> &'static str {
        match self.kind {
            BinaryKind::Add => "add",
            BinaryKind::Sub => "sub",
            BinaryKind::Mul => "mul",
            BinaryKind::Div => "div",
        }
    }

    fn roles(&self) -> &'static [&'static str] {
        &["lhs", "rhs"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [lhs, rhs] = ins.exactly()?;
        lhs.dtype(DTypeSet::Float)?;
        rhs.dtype(DTypeSet::Float)?;
        one(lhs.desc.dtype, broadcast(lhs.shape(), rhs.shape())?)
    }

    /// Cut: the same cut in both, an operand that is repeated along it whole. Sums: `sum + sum`, `sum - sum`,
    /// `sum * whole`, `whole * sum` and `sum / whole` stay sums.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let (Some(out), [a, b]) = (outs.first(), ins) else {
            return SplitRule::replicated(ins.len(), outs.len());
        };
        use Sharding::{Partial, Replicated};
        let linear = match (self.kind, a.sharding, b.sharding) {
            (BinaryKind::Add | BinaryKind::Sub, Partial, Partial)
            | (BinaryKind::Mul | BinaryKind::Div, Partial, Replicated)
            | (BinaryKind::Mul, Replicated, Partial) => out.dtype == DType::F32,
            _ => false,
        };
        if linear {
            return SplitRule::new([a.sharding.clone(), b.sharding.clone()], [Partial]);
        }
        SplitRule::by_elements(ins, out)
    }
}

/// `scale * x + bias`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// Factor.
    pub scale: Real,
    /// Added after.
    pub bias: Real,
}

impl OpSpec for Scale {
    fn stem(&self) -> &'static str {
        "scale"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        finite("scale", self.scale.0)?;
        finite("bias", self.bias.0)?;
        one(x.dtype(DTypeSet::Float)?.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        2.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![
            ("scale", self.scale.to_string()),
            ("bias", self.bias.to_string()),
        ]
    }

    /// Any cut passes; a sum passes if nothing is added.
    fn split(&self, ins: &[SplitOperand<'_>], _: &[&TensorDesc]) -> SplitRule {
        let linear = (self.bias.0 == 0.0).then(|| SplitRule::summed(ins));
        linear
            .flatten()
            .unwrap_or_else(|| SplitRule::elementwise(ins))
    }
}

/// `x` limited to `min..=max`; either may be infinite.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clamp {
    /// Lower limit.
    pub min: Real,
    /// Upper limit.
    pub max: Real,
}

impl OpSpec for Clamp {
    fn stem(&self) -> &'static str {
        "clamp"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        // Written so that a NaN limit is refused too.
        if !matches!(
            self.min.0.partial_cmp(&self.max.0),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        ) {
            return Err(OpError::Param {
                name: "min",
                got: f64::from(self.min.0),
                rule: "a number not above max",
            });
        }
        one(x.dtype(DTypeSet::Float)?.desc.dtype, x.shape().clone())
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("min", self.min.to_string()), ("max", self.max.to_string())]
    }

    /// Any cut passes.
    fn split(&self, ins: &[SplitOperand<'_>], _: &[&TensorDesc]) -> SplitRule {
        SplitRule::elementwise(ins)
    }
}

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryKind {
    /// x * sigmoid(x).
    Silu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// ln(1 + exp(x)).
    Softplus,
    /// Hyperbolic tangent.
    Tanh,
    /// GELU, tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    Gelu,
    /// GELU, exact: x/2 (1 + erf(x / sqrt 2)).
    GeluErf,
    /// x * sigmoid(1.702 x).
    GeluQuick,
    /// e^x.
    Exp,
    /// -x.
    Neg,
    /// max(x, 0).
    Relu,
    /// x^2.
    Sqr,
    /// Square root.
    Sqrt,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
}

impl UnaryKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Silu,
        Self::Sigmoid,
        Self::Softplus,
        Self::Tanh,
        Self::Gelu,
        Self::GeluErf,
        Self::GeluQuick,
        Self::Exp,
        Self::Neg,
        Self::Relu,
        Self::Sqr,
        Self::Sqrt,
        Self::Sin,
        Self::Cos,
    ];
}

/// A function of each element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unary {
    /// Which function.
    pub kind: UnaryKind,
}

impl OpSpec for Unary {
    fn stem(&self) -> &'static str {
        match self.kind {
            UnaryKind::Silu => "silu",
            UnaryKind::Sigmoid => "sigmoid",
            UnaryKind::Softplus => "softplus",
            UnaryKind::Tanh => "tanh",
            UnaryKind::Gelu => "gelu",
            UnaryKind::GeluErf => "gelu_erf",
            UnaryKind::GeluQuick => "gelu_quick",
            UnaryKind::Exp => "exp",
            UnaryKind::Neg => "neg",
            UnaryKind::Relu => "relu",
            UnaryKind::Sqr => "sqr",
            UnaryKind::Sqrt => "sqrt",
            UnaryKind::Sin => "sin",
            UnaryKind::Cos => "cos",
        }
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        one(x.dtype(DTypeSet::Float)?.desc.dtype, x.shape().clone())
    }

    /// Any cut passes; a sum only through a change of sign.
    fn split(&self, ins: &[SplitOperand<'_>], _: &[&TensorDesc]) -> SplitRule {
        let linear = (self.kind == UnaryKind::Neg).then(|| SplitRule::summed(ins));
        linear
            .flatten()
            .unwrap_or_else(|| SplitRule::elementwise(ins))
    }
}
