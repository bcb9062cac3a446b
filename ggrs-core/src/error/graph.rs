//! Errors of building, sealing and binding a graph.

use std::fmt;
use std::panic::Location;

use crate::{OpError, TensorDesc};

/// An operand as a message shows it: role, name, description.
#[derive(Clone, Debug, PartialEq)]
pub struct OperandInfo {
    /// The operand's name in the op.
    pub role: &'static str,
    /// The value's name in the graph.
    pub name: String,
    /// Dtype, shape, layout.
    pub desc: TensorDesc,
}

impl fmt::Display for OperandInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\" {}", self.role, self.name, self.desc)
    }
}

fn list(operands: &[OperandInfo]) -> String {
    if operands.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = operands.iter().map(ToString::to_string).collect();
    format!(" ({})", parts.join(", "))
}

/// Why a graph could not be built, sealed or bound.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An op refused its operands.
    #[error("{op} \"{name}\"{}: {source}, at {location}", list(operands))]
    Op {
        /// The op's stem.
        op: &'static str,
        /// The name the node would have had.
        name: String,
        /// Its operands.
        operands: Box<[OperandInfo]>,
        /// The rule broken.
        source: Box<OpError>,
        /// Where the op was added.
        location: &'static Location<'static>,
    },
    /// A value of another builder.
    #[error("{op}: operand {operand} belongs to another graph, at {location}")]
    ForeignValue {
        /// The op's stem.
        op: &'static str,
        /// Position among the operands.
        operand: usize,
        /// Where the op was added.
        location: &'static Location<'static>,
    },
    /// A value used after an in-place op replaced it.
    #[error(
        "{op}: operand \"{name}\" was overwritten by \"{writer}\"; use the result of \"{writer}\" instead, at {location}"
    )]
    StaleValue {
        /// The op's stem.
        op: &'static str,
        /// The value used.
        name: String,
        /// The node that overwrote it.
        writer: String,
        /// Where the op was added.
        location: &'static Location<'static>,
    },
    /// Two leaves or outputs with one name.
    #[error(
        "the name \"{name}\" is taken: inputs, weights, states and outputs need names of their own"
    )]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Nothing to compute.
    #[error("the graph has neither an output nor a write to a state: mark at least one output")]
    NoOutputs,
    /// More nodes or values than ids.
    #[error("the graph has more than {max} values")]
    TooManyValues {
        /// The limit.
        max: u32,
    },
    /// A rewrite made a cycle.
    #[error("the graph has a cycle: {}", path.join(" -> "))]
    Cycle {
        /// Names along the cycle.
        path: Vec<String>,
    },
    /// A symbol with no room.
    #[error("symbol \"{name}\" must allow sizes from 1 to at least 2, got a maximum of {max}")]
    SymbolRange {
        /// The symbol.
        name: &'static str,
        /// Its maximum.
        max: usize,
    },
    /// Binding left a symbol open.
    #[error("symbol \"{name}\" has no size: bind it to 1..={max}")]
    Unbound {
        /// The symbol.
        name: &'static str,
        /// Its maximum.
        max: usize,
    },
    /// A size outside a symbol's range.
    #[error("symbol \"{name}\" cannot be {got}: its range is 1..={max}")]
    BindRange {
        /// The symbol.
        name: &'static str,
        /// The size asked for.
        got: usize,
        /// Its maximum.
        max: usize,
    },
    /// A role was given to something that is computed.
    #[error("\"{name}\" is not a leaf: roles are of weights, states and inputs")]
    NotALeaf {
        /// The node.
        name: String,
    },
    /// A way to cut a tensor that does not fit its shape.
    #[error(
        "\"{name}\" ({desc}) cannot be cut along axis {axis} as part of \"{group}\": its {positions} positions need a size of {needs}"
    )]
    Link {
        /// The leaf.
        name: String,
        /// What it is.
        desc: TensorDesc,
        /// The group.
        group: String,
        /// The axis.
        axis: usize,
        /// Positions of the group.
        positions: usize,
        /// The size the axis would need; 0 if the positions do not divide.
        needs: usize,
    },
    /// A rewrite refers to something that is not there.
    #[error("pass \"{pass}\" rewrote \"{node}\" with {what}")]
    BadPatch {
        /// The pass.
        pass: &'static str,
        /// The node it rewrote.
        node: String,
        /// What is wrong, in words.
        what: &'static str,
    },
}
