//! What a leaf is to its model, said by the code that builds the graph: placement and splitting read it, kernels don't.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// What a weight or state is to its model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Role {
    /// Its kind.
    pub kind: RoleKind,
    /// Its layer, counted from 0; `None` outside the layers.
    pub layer: Option<usize>,
    /// Ways in which it can be cut over members, each with the weights that must be cut alike.
    pub links: SmallVec<[Link; 1]>,
}

impl Role {
    /// A role outside the layers.
    pub fn new(kind: RoleKind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// A role in a layer.
    pub fn in_layer(kind: RoleKind, layer: usize) -> Self {
        Self {
            kind,
            layer: Some(layer),
            ..Self::default()
        }
    }

    /// With one more way to cut it.
    #[must_use]
    pub fn with(mut self, link: Link) -> Self {
        self.links.push(link);
        self
    }
}

/// Kinds of weights and states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[non_exhaustive]
pub enum RoleKind {
    /// Nothing known.
    #[default]
    Other,
    /// The table of token embeddings.
    Embedding,
    /// A projection of attention.
    Attention,
    /// Keys or values of earlier tokens.
    Kv,
    /// State or weight of a recurrent mixer.
    Recurrent,
    /// The router of a mixture of experts.
    Router,
    /// An expert bank.
    Experts,
    /// A dense feed-forward weight, shared experts among them.
    Dense,
    /// A norm.
    Norm,
    /// The output head.
    Output,
}

impl RoleKind {
    /// In words, as pins and plans write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Embedding => "embedding",
            Self::Attention => "attention",
            Self::Kv => "kv",
            Self::Recurrent => "recurrent",
            Self::Router => "router",
            Self::Experts => "experts",
            Self::Dense => "dense",
            Self::Norm => "norm",
            Self::Output => "output",
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One way to cut a tensor: along `axis`, together with every tensor of the same group.
///
/// A group is a logical axis of `positions` positions (query heads, hidden units of an expert, experts, rows of the
/// vocabulary), cut once for all its tensors. Each tensor says how the group lies along its own axis: as stretches one
/// after another, each of which holds all the positions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The group, by a name that is unique in the model: `blk.0.heads`.
    pub group: Arc<str>,
    /// What the group cuts.
    pub cut: Cut,
    /// Positions of the group.
    pub positions: usize,
    /// The axis of this tensor.
    pub axis: usize,
    /// How the positions lie along it.
    pub stretches: SmallVec<[Stretch; 1]>,
}

/// What a group cuts: the choice between two links of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[non_exhaustive]
pub enum Cut {
    /// Heads of attention.
    Heads,
    /// Hidden units of a feed-forward block or of every expert.
    Width,
    /// Whole experts.
    Experts,
    /// Rows of the vocabulary.
    Vocabulary,
}

/// All positions of a group along an axis: `unit` elements for every `shared_by` neighbouring positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// Elements of the axis that belong together.
    pub unit: usize,
    /// Positions that share them: 1, or query heads per key head.
    pub shared_by: usize,
}

impl Link {
    /// A link whose axis holds every position once, `unit` elements each.
    pub fn new(group: &str, cut: Cut, positions: usize, axis: usize, unit: usize) -> Self {
        Self {
            group: group.into(),
            cut,
            positions,
            axis,
            stretches: SmallVec::from_elem(Stretch { unit, shared_by: 1 }, 1),
        }
    }

    /// The same, with `shared_by` neighbouring positions sharing their unit.
    #[must_use]
    pub fn shared_by(mut self, shared_by: usize) -> Self {
        for stretch in &mut self.stretches {
            stretch.shared_by = shared_by;
        }
        self
    }

    /// Elements that the axis must have; `None` if the numbers do not divide or overflow.
    pub fn axis_size(&self) -> Option<usize> {
        self.stretches.iter().try_fold(0usize, |sum, s| {
            let divides = s.shared_by > 0 && self.positions.is_multiple_of(s.shared_by);
            let units = divides.then(|| self.positions / s.shared_by)?;
            sum.checked_add(units.checked_mul(s.unit)?)
        })
    }
}
