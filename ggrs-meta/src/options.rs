//! What the user of a device made of several may choose. It decides nothing itself.

use std::collections::BTreeMap;

/// Who gets how much, how experts are cut, when partial sums are added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaOptions {
    /// Shares of the members, in any unit: 3 and 1, 0.75 and 0.25. A 0 leaves a member without weights. Empty: even.
    pub ratios: Vec<f64>,
    /// Groups whose cut is given exactly, in positions per member. They must keep atoms whole.
    pub sizes: BTreeMap<String, Vec<usize>>,
    /// How expert banks are cut.
    pub experts: ExpertSplit,
    /// When partial sums are added up.
    pub reduction: Reduction,
}

/// How expert banks are cut that can be cut in two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExpertSplit {
    /// Every member holds some hidden units of every expert.
    Width,
    /// Every member holds some experts whole.
    Experts,
    /// Whichever loads the members more evenly.
    #[default]
    Cheaper,
}

/// When partial sums are added up. All choices give the same values up to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduction {
    /// As late as the ops allow; otherwise as soon as there is one.
    pub late: bool,
    /// Two partial sums that are added become one.
    pub merge: bool,
    /// Where a partial sum passes through several linear ops, it is added up where it has the fewest bytes.
    pub shrink: bool,
}

impl Default for Reduction {
    /// Late, merged, where it is smallest.
    fn default() -> Self {
        Self {
            late: true,
            merge: true,
            shrink: true,
        }
    }
}

impl Reduction {
    /// Every partial sum is added up at once.
    pub const EAGER: Self = Self {
        late: false,
        merge: false,
        shrink: false,
    };
}
