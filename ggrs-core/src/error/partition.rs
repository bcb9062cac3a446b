//! Errors of splitting: of deciding who holds what, and of making one graph per member.

use crate::{DType, GraphError};

/// Why a graph cannot be split over the members of a device made of several.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// Ratios that do not say who gets how much.
    #[error("the ratios {ratios:?} do not fit {members} members: {rule}")]
    Ratios {
        /// As given.
        ratios: Vec<f64>,
        /// Number of members.
        members: usize,
        /// What they have to be.
        rule: &'static str,
    },
    /// Two tensors say different things of their group.
    #[error(
        "group \"{group}\" has {first_says} in tensor \"{first}\" and {second_says} in tensor \"{second}\"; one group is one axis, cut once"
    )]
    Group {
        /// The group.
        group: String,
        /// A tensor.
        first: String,
        /// What it says.
        first_says: String,
        /// Another.
        second: String,
        /// What that one says.
        second_says: String,
    },
    /// Sizes given for a group that is not there, or that do not add up.
    #[error("the sizes {sizes:?} given for group \"{group}\" do not fit: {rule}, here {expected}")]
    Sizes {
        /// The group.
        group: String,
        /// As given, one per member.
        sizes: Vec<usize>,
        /// The rule they break.
        rule: &'static str,
        /// The number the rule speaks of.
        expected: usize,
    },
    /// Sizes given for a group that cut what belongs together.
    #[error(
        "the sizes {sizes:?} given for group \"{group}\" cut one of its pieces of {atom} positions, which {} must keep whole; the nearest sizes that do not are {nearest:?}",
        demanded_by.join(", ")
    )]
    CutsAtom {
        /// The group.
        group: String,
        /// As given, one per member.
        sizes: Vec<usize>,
        /// Positions that belong together.
        atom: usize,
        /// The tensors that demand it, with their dtypes.
        demanded_by: Vec<String>,
        /// Legal sizes close to those given.
        nearest: Vec<usize>,
    },
    /// A link that does not describe its tensor.
    #[error(
        "tensor \"{tensor}\" cannot be cut as group \"{group}\" says along axis {axis}: {source}"
    )]
    Link {
        /// The tensor.
        tensor: String,
        /// The group.
        group: String,
        /// The axis.
        axis: usize,
        /// What is wrong.
        source: crate::shard::SplitError,
    },
    /// An in-place op that would need its state to lie in another way.
    #[error(
        "{op} \"{node}\" writes state \"{state}\", which is {lies}, and could do so only if it were {asked}; link the state to the group of what is written into it, or leave both unlinked"
    )]
    State {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// The state.
        state: String,
        /// How it lies.
        lies: String,
        /// How the op's rule wants it.
        asked: String,
    },
    /// A value that would have to be gathered, of a type that cannot travel.
    #[error(
        "{op} \"{node}\" needs the whole of \"{value}\", which is {lies}, and {dtype} values are not gathered; leave the tensor it comes from unlinked"
    )]
    Gather {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// The value.
        value: String,
        /// Its dtype.
        dtype: DType,
        /// How it lies.
        lies: String,
    },
    /// A split rule that contradicts itself.
    #[error("the split rule of {op} \"{node}\" cannot be followed on member {member}: {what}")]
    Rule {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// The member.
        member: usize,
        /// The contradiction.
        what: &'static str,
    },
    /// A member's result that has not the shape of its share.
    #[error(
        "{op} \"{node}\" gives {found} on member {member}, its share of {whole} ({lies}) is {expected}"
    )]
    Share {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// The member.
        member: usize,
        /// The whole result.
        whole: String,
        /// How it lies.
        lies: String,
        /// The share's shape.
        expected: String,
        /// The shape found.
        found: String,
    },
    /// A member's op does not suit the member's operands.
    #[error("member {member} cannot do its part of \"{node}\": {source}")]
    Member {
        /// The member.
        member: usize,
        /// The node of the whole graph.
        node: String,
        /// What its builder refused.
        source: Box<GraphError>,
    },
    /// A graph that is already one of several members'.
    #[error(
        "\"{node}\" is a collective over {members} members: the graph is already a member's; split the whole one"
    )]
    Nested {
        /// The collective.
        node: String,
        /// Its members.
        members: usize,
    },
    /// Members that would not meet at the same collectives.
    #[error("at exchange {at} member 0 runs {expected} and member {member} runs {found}")]
    Exchanges {
        /// Which exchange, counted from 0.
        at: usize,
        /// The member that differs.
        member: usize,
        /// Member 0's.
        expected: String,
        /// The other's.
        found: String,
    },
    /// An output that would be a sum nobody has added up.
    #[error("output \"{output}\" would be partial sums")]
    PartialOutput {
        /// The output.
        output: String,
    },
    /// A state that a member would write into a copy of.
    #[error(
        "member {member} would write \"{node}\" into a copy instead of into state \"{state}\"; write the state itself, not a reshaped part of it"
    )]
    LostWrite {
        /// The member.
        member: usize,
        /// The node that writes.
        node: String,
        /// The state.
        state: String,
    },
}
