//! Linked groups: what their tensors demand of a cut, the cut, and each tensor's share of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ggrs_core::shard::{Part, Split, SplitError};
use ggrs_core::{Cut, DType, Link, PartitionError, TensorDesc};

use super::cut::{Pieces, gcd, in_order, lcm_within};

/// A group as its tensors describe it.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) cut: Cut,
    pub(super) positions: usize,
    /// The first layer that a tensor names.
    pub(super) layer: Option<usize>,
    pub(super) tensors: Vec<Tensor<'a>>,
}

/// A tensor of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) desc: &'a TensorDesc,
    pub(super) link: &'a Link,
}

/// A group and its cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Its name.
    pub name: Arc<str>,
    /// What it cuts.
    pub cut: Cut,
    /// Its positions.
    pub positions: usize,
    /// Ranges begin and end at multiples of this many positions: what block formats demand.
    pub atom: usize,
    /// Positions that read one key head; 1 if they share nothing.
    pub shared_by: usize,
    /// For each member its positions; empty if it has none.
    pub parts: Vec<Range<usize>>,
    /// The tensors cut with it.
    pub tensors: Vec<TensorCut>,
    /// Why this group and not another, where there was a choice.
    pub reason: Option<String>,
}

/// A tensor cut with its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorCut {
    /// Its name.
    pub name: Arc<str>,
    /// Its axis that is cut.
    pub axis: usize,
    /// Its dtype.
    pub dtype: DType,
    /// Positions that its format keeps together.
    pub atom: usize,
}

impl Tensor<'_> {
    /// Positions that the tensor's format keeps together: a block of the last axis is never cut.
    fn atom(&self) -> usize {
        let block = self.desc.dtype.block_elems();
        if block == 1 || self.link.axis + 1 != self.desc.rank() {
            return 1;
        }
        let (positions, mut atom, mut start) = (self.link.positions, 1, 0usize);
        for s in &self.link.stretches {
            if !start.is_multiple_of(block) {
                return positions.max(1);
            }
            let units = block / gcd(block, s.unit);
            if units > 1 {
                atom = lcm_within(atom, units.saturating_mul(s.shared_by), positions);
            }
            start = start.saturating_add(positions / s.shared_by.max(1) * s.unit);
        }
        atom
    }

    /// Positions that share a unit of the tensor.
    fn shared_by(&self) -> usize {
        let counts = self.link.stretches.iter().map(|s| s.shared_by);
        counts.fold(1, |all, n| lcm_within(all, n, self.link.positions))
    }

    /// Name and what it demands, for messages.
    fn describe(&self) -> String {
        format!("{} ({})", self.name, self.desc)
    }
}

impl<'a> Group<'a> {
    /// What belongs together.
    pub(super) fn pieces(&self) -> Pieces {
        let all = |of: fn(&Tensor<'a>) -> usize| {
            let each = self.tensors.iter().map(of);
            each.fold(1, |all, n| lcm_within(all, n, self.positions))
        };
        Pieces {
            positions: self.positions,
            atom: all(Tensor::atom),
            shared_by: all(Tensor::shared_by),
        }
    }

    /// Its turn in the rounding: groups of one layer round alike, whatever else the graph holds.
    pub(super) fn turn(&self) -> usize {
        self.layer.unwrap_or(0)
    }

    /// The cut by ratios.
    pub(super) fn parts(&self, ratios: &[f64]) -> Vec<Range<usize>> {
        self.pieces().cut(ratios, self.turn())
    }

    /// The cut into exactly these sizes.
    pub(super) fn exact(
        &self,
        sizes: &[usize],
        members: usize,
    ) -> Result<Vec<Range<usize>>, PartitionError> {
        let refuse = |rule, expected| PartitionError::Sizes {
            group: self.name.to_string(),
            sizes: sizes.to_vec(),
            rule,
            expected,
        };
        if sizes.len() != members {
            return Err(refuse("one size per member", members));
        }
        let sum = sizes.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
        if sum != Some(self.positions) {
            return Err(refuse("they add up to its positions", self.positions));
        }
        let (pieces, parts) = (self.pieces(), in_order(sizes));
        if pieces.keep(&parts) {
            return Ok(parts);
        }
        // What block formats demand is named first; if they are content, it is the key heads that are cut.
        let cuts = |atom: usize| parts.iter().any(|r| !r.end.is_multiple_of(atom.max(1)));
        let blocks: Vec<&Tensor<'_>> = self.tensors.iter().filter(|t| cuts(t.atom())).collect();
        let (atom, tensors) = if blocks.is_empty() {
            let shared = self.tensors.iter().filter(|t| t.shared_by() > 1);
            (pieces.shared_by, shared.collect())
        } else {
            (pieces.atom, blocks)
        };
        #[allow(clippy::cast_precision_loss, reason = "positions are far below 2^52")]
        let as_ratios: Vec<f64> = sizes.iter().map(|n| *n as f64).collect();
        let nearest = pieces.cut(&as_ratios, 0);
        Err(PartitionError::CutsAtom {
            group: self.name.to_string(),
            sizes: sizes.to_vec(),
            atom,
            demanded_by: tensors.into_iter().map(Tensor::describe).collect(),
            nearest: nearest.iter().map(Range::len).collect(),
        })
    }

    /// The plan with this cut.
    pub(super) fn plan(&self, parts: Vec<Range<usize>>, reason: Option<String>) -> GroupPlan {
        let Pieces {
            positions,
            atom,
            shared_by,
        } = self.pieces();
        let tensors = self.tensors.iter().map(|t| TensorCut {
            name: Arc::clone(t.name),
            axis: t.link.axis,
            dtype: t.desc.dtype,
            atom: t.atom(),
        });
        GroupPlan {
            name: Arc::clone(self.name),
            cut: self.cut,
            positions,
            atom,
            shared_by,
            parts,
            tensors: tensors.collect(),
            reason,
        }
    }
}

/// How a tensor is cut when its group is: for each member the elements of every stretch that its positions read.
pub(super) fn split_of(link: &Link, parts: &[Range<usize>]) -> Result<Split, SplitError> {
    let of_member = |positions: &Range<usize>| {
        let mut part = Part::new();
        if positions.is_empty() {
            return part;
        }
        let mut start = 0usize;
        for s in &link.stretches {
            let share = s.shared_by.max(1);
            let first = start + positions.start / share * s.unit;
            let end = start + positions.end.div_ceil(share) * s.unit;
            match part.last_mut() {
                Some(last) if last.end == first => last.end = end,
                _ if first < end => part.push(first..end),
                _ => {}
            }
            start += link.positions / share * s.unit;
        }
        part
    };
    let parts: Vec<Part> = parts.iter().map(of_member).collect();
    Split::new(link.axis, link.axis_size().unwrap_or(0), parts)
}

impl fmt::Display for GroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} positions", self.name, self.positions)?;
        if self.atom > 1 {
            write!(f, " in atoms of {}", self.atom)?;
        }
        if self.shared_by > 1 {
            write!(f, ", {} per key head", self.shared_by)?;
        }
        for (i, part) in self.parts.iter().enumerate() {
            f.write_str(if i == 0 { ": " } else { " | " })?;
            if part.is_empty() {
                f.write_str("none")?;
            } else {
                write!(f, "{}..{}", part.start, part.end)?;
            }
        }
        if let Some(reason) = &self.reason {
            write!(f, "; {reason}")?;
        }
        for t in &self.tensors {
            write!(f, "\n  {} {} axis {}", t.name, t.dtype, t.axis)?;
            if t.atom > 1 {
                write!(f, ", keeps {} positions together", t.atom)?;
            }
        }
        Ok(())
    }
}
