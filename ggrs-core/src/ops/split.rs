//! Split rules: given how an op's operands lie over the members of a device made of several, how they have to lie and
//! how the results then lie. Each family states its rule beside its inference.
//!
//! A rule is total: what it cannot do on parts it does on whole values. Whoever partitions a graph brings operands
//! into the layout the rule asks for: a slice of a whole value, a gather of parts, a sum of partial ones.

use smallvec::SmallVec;

use crate::TensorDesc;
use crate::shard::{Sharding, Split};

/// An operand as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct SplitOperand<'a> {
    /// What it is as a whole.
    pub desc: &'a TensorDesc,
    /// How it lies.
    pub sharding: &'a Sharding,
}

impl SplitOperand<'_> {
    /// The cut, if it is cut.
    pub const fn split(&self) -> Option<&Split> {
        match self.sharding {
            Sharding::Split(split) => Some(split),
            _ => None,
        }
    }

    /// Is it a sum of the members' tensors?
    pub const fn is_partial(&self) -> bool {
        matches!(self.sharding, Sharding::Partial)
    }

    /// The cut axis counted from the last, if it is cut.
    pub fn axis_from_end(&self) -> Option<usize> {
        let split = self.split()?;
        (self.desc.rank() - 1).checked_sub(split.axis())
    }
}

/// What an op does on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRule {
    /// How each operand has to lie.
    pub inputs: SmallVec<[Sharding; 4]>,
    /// How each result then lies.
    pub outputs: SmallVec<[Sharding; 2]>,
}

impl SplitRule {
    /// Every member computes the whole.
    pub fn replicated(n_inputs: usize, n_outputs: usize) -> Self {
        Self {
            inputs: SmallVec::from_elem(Sharding::Replicated, n_inputs),
            outputs: SmallVec::from_elem(Sharding::Replicated, n_outputs),
        }
    }

    /// These operands and these results.
    pub fn new(
        inputs: impl IntoIterator<Item = Sharding>,
        outputs: impl IntoIterator<Item = Sharding>,
    ) -> Self {
        Self {
            inputs: inputs.into_iter().collect(),
            outputs: outputs.into_iter().collect(),
        }
    }
}
