//! Gated linear units: activation(gate) * up.

use crate::ops::operands::{multiple, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems};
use crate::{DTypeSet, OpError, Sharding, Split, TensorDesc};

/// The gate's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GluKind {
    /// SiLU.
    Swiglu,
    /// GELU, tanh form.
    Geglu,
    /// GELU, exact.
    GegluErf,
    /// x * sigmoid(1.702 x).
    GegluQuick,
    /// ReLU.
    Reglu,
}

impl GluKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Swiglu,
        Self::Geglu,
        Self::GegluErf,
        Self::GegluQuick,
        Self::Reglu,
    ];

    /// The op's name with this activation.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Swiglu => "swiglu",
            Self::Geglu => "geglu",
            Self::GegluErf => "geglu_erf",
            Self::GegluQuick => "geglu_quick",
            Self::Reglu => "reglu",
        }
    }
}

/// How gate and up arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GluInput {
    /// Two tensors of one shape.
    Split,
    /// One tensor: its last axis is the gate's half, then the up half.
    GateUp,
    /// One tensor: the up half comes first.
    UpGate,
}

/// `activation(gate) * up`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glu {
    /// The activation.
    pub kind: GluKind,
    /// One operand or two.
    pub input: GluInput,
}

impl OpSpec for Glu {
    fn stem(&self) -> &'static str {
        self.kind.stem()
    }

    fn roles(&self) -> &'static [&'static str] {
        match self.input {
            GluInput::Split => &["gate", "up"],
            GluInput::GateUp | GluInput::UpGate => &["gate and up"],
        }
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        if self.input == GluInput::Split {
            let [gate, up] = ins.exactly()?;
            let gate = gate.dtype(DTypeSet::Float)?.rows()?;
            up.dtype(DTypeSet::One(gate.desc.dtype))?
                .rows()?
                .rank(gate.desc.rank(), "as many axes as the gate")?;
            for i in 0..gate.desc.rank() {
                up.same(i, "axis size", gate.role, gate.from_end(i))?;
            }
            return one(gate.desc.dtype, gate.shape().clone());
        }
        let [x] = ins.exactly()?;
        let x = x
            .dtype(DTypeSet::Float)?
            .rows()?
            .min_rank(1, "at least 1 axis")?;
        let width = x.fixed_from_end(0, "gate and up halves need a fixed width")?;
        multiple("width of gate and up", x.from_end(0), "two halves", 2)?;
        one(
            x.desc.dtype,
            x.shape().clone().with(x.desc.rank() - 1, width / 2),
        )
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        2.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("input", format!("{:?}", self.input))]
    }

    /// Two operands: the same cut in both. One: a cut of another axis passes; a cut of the last one passes if every
    /// member holds the same elements of both halves.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let Some(out) = outs.first() else {
            return replicated;
        };
        match (self.input, ins) {
            (GluInput::Split, _) => SplitRule::by_elements(ins, out),
            (_, [x]) if x.cut_of_rows().is_some() => SplitRule::passed(x.sharding, 1),
            (_, [x]) => {
                let width = out.shape.last().bound();
                let half = x.split().and_then(|s| of_both_halves(s, width));
                half.map_or(replicated, |half| {
                    SplitRule::new([x.sharding.clone()], [Sharding::Split(half)])
                })
            }
            _ => replicated,
        }
    }
}

/// The cut of either half of an axis of twice `width`, if both are cut alike.
fn of_both_halves(split: &Split, width: usize) -> Option<Split> {
    let (first, second) = (split.within(&(0..width)), split.within(&(width..2 * width)));
    // A member's first half must lie before its second.
    let in_order = (0..split.members()).all(|m| {
        let mut rest = split.elements(m).skip_while(|i| *i < width);
        rest.all(|i| i >= width)
    });
    (first == second && in_order).then_some(first)
}
