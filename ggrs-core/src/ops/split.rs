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

    /// The cut, if it is one of `axis`.
    pub fn cut_of(&self, axis: usize) -> Option<&Split> {
        self.split().filter(|s| s.axis() == axis)
    }

    /// The cut, if it is one of the axis `n` before the last.
    pub fn cut_from_end(&self, n: usize) -> Option<&Split> {
        let axis = self.desc.rank().checked_sub(n + 1)?;
        self.cut_of(axis)
    }

    /// The cut, if it leaves the last axis whole.
    pub fn cut_of_rows(&self) -> Option<&Split> {
        self.split().filter(|s| s.axis() + 1 < self.desc.rank())
    }

    /// The cut of a result that this operand is broadcast to, axes aligned at the last one; `None` if the operand is
    /// not cut, or along an axis that is repeated.
    pub fn cut_in(&self, out: &TensorDesc) -> Option<Split> {
        let split = self.split()?;
        let axis = (split.axis() + out.rank()).checked_sub(self.desc.rank())?;
        let whole = self.desc.shape.dim(split.axis()) == out.shape.dim(axis);
        whole.then(|| split.on_axis(axis))
    }

    /// How this operand has to lie so that the result that it is broadcast to lies as `cut`.
    pub fn follow(&self, cut: &Split, out: &TensorDesc) -> Sharding {
        let axis = (cut.axis() + self.desc.rank()).checked_sub(out.rank());
        let dim = axis.and_then(|a| self.desc.shape.dim(a));
        match axis {
            Some(axis) if dim == out.shape.dim(cut.axis()) => Sharding::Split(cut.on_axis(axis)),
            _ => Sharding::Replicated,
        }
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

    /// An op of one operand whose results all lie as it does.
    pub fn passed(sharding: &Sharding, n_outputs: usize) -> Self {
        Self {
            inputs: SmallVec::from_elem(sharding.clone(), 1),
            outputs: SmallVec::from_elem(sharding.clone(), n_outputs),
        }
    }

    /// An op that treats every element of its only operand by itself: any cut passes.
    pub fn elementwise(ins: &[SplitOperand<'_>]) -> Self {
        match ins {
            [x] if x.split().is_some() => Self::passed(x.sharding, 1),
            _ => Self::replicated(ins.len(), 1),
        }
    }

    /// An op that treats every row of its only operand by itself: a cut that leaves the last axis whole passes.
    pub fn by_rows(ins: &[SplitOperand<'_>], n_outputs: usize) -> Self {
        match ins {
            [x] if x.cut_of_rows().is_some() => Self::passed(x.sharding, n_outputs),
            _ => Self::replicated(ins.len(), n_outputs),
        }
    }

    /// An op that treats every element by itself, its operands broadcast to the result: the first operand's cut passes,
    /// or else the next one's.
    pub fn by_elements(ins: &[SplitOperand<'_>], out: &TensorDesc) -> Self {
        match ins.iter().find_map(|x| x.cut_in(out)) {
            Some(cut) => Self {
                inputs: ins.iter().map(|x| x.follow(&cut, out)).collect(),
                outputs: SmallVec::from_elem(Sharding::Split(cut), 1),
            },
            None => Self::replicated(ins.len(), 1),
        }
    }

    /// The only operand is a sum of the members' tensors, and so is the result: for ops that are linear in it.
    pub fn summed(ins: &[SplitOperand<'_>]) -> Option<Self> {
        matches!(ins, [x] if x.is_partial()).then(|| Self::passed(&Sharding::Partial, 1))
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
