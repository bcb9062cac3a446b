//! Gated linear units: an activation of the gate times the other half.

use super::array::Array;
use super::elementwise::{BinaryKind, UnaryKind, binary, unary};
use super::layout::slice;

/// Which activation the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GluKind {
    /// SiLU.
    Swiglu,
    /// Tanh-approximated GELU.
    Geglu,
    /// GELU by the error function.
    GegluErf,
    /// GELU by `x * sigmoid(1.702 x)`.
    GegluQuick,
    /// ReLU.
    Reglu,
}

impl GluKind {
    /// The activation of the gate.
    fn activation(self) -> UnaryKind {
        match self {
            Self::Swiglu => UnaryKind::Silu,
            Self::Geglu => UnaryKind::Gelu,
            Self::GegluErf => UnaryKind::GeluErf,
            Self::GegluQuick => UnaryKind::GeluQuick,
            Self::Reglu => UnaryKind::Relu,
        }
    }
}

/// `activation(gate) * up`, two arrays of one shape.
pub fn glu_split(kind: GluKind, gate: &Array, up: &Array) -> Array {
    assert_eq!(gate.shape, up.shape, "gate and up differ in shape");
    binary(BinaryKind::Mul, &unary(kind.activation(), gate), up)
}

/// The same with both in one array `[.., 2n]`: gate first, or last if `swapped`. The result is `[.., n]`.
pub fn glu_fused(kind: GluKind, x: &Array, swapped: bool) -> Array {
    let axis = x.rank() - 1;
    let n = x.row_len() / 2;
    assert_eq!(x.row_len(), 2 * n, "a fused row has two halves");
    let (first, second) = (slice(x, axis, 0, n), slice(x, axis, n, 2 * n));
    if swapped {
        glu_split(kind, &second, &first)
    } else {
        glu_split(kind, &first, &second)
    }
}
