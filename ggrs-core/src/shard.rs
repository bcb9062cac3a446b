//! How a value lies over the members of a device made of several: whole on each, cut along one axis, or as partial
//! sums. It knows no device and moves no byte.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

/// How a value lies over the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharding {
    /// Every member holds the whole value.
    #[default]
    Replicated,
    /// Every member holds some ranges of one axis.
    Split(Split),
    /// The value is the sum of the members' tensors, which have its shape.
    Partial,
}

/// The ranges of an axis that one member holds, in the order in which they lie in its tensor. Empty if it holds none.
pub type Part = SmallVec<[Range<usize>; 1]>;

/// A cut along one axis: for each member the ranges it holds.
///
/// Together the members hold the whole axis. A range may be held by several (key heads that more members read than
/// there are heads): all of them write it, the first one is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    axis: usize,
    parts: Arc<[Part]>,
}

/// Why parts are not a cut of an axis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A range that is empty, backwards or past the end.
    #[error("member {member} holds {range:?} of an axis of {size}")]
    Range {
        /// Whose.
        member: usize,
        /// The range.
        range: Range<usize>,
        /// Size of the axis.
        size: usize,
    },
    /// Elements that nobody holds.
    #[error("no member holds element {at} of an axis of {size}")]
    Gap {
        /// The first such element.
        at: usize,
        /// Size of the axis.
        size: usize,
    },
}

impl Split {
    /// A cut of `axis`, which has `size` elements.
    ///
    /// # Errors
    /// A range outside the axis, an element that nobody holds.
    pub fn new(
        axis: usize,
        size: usize,
        parts: impl Into<Arc<[Part]>>,
    ) -> Result<Self, SplitError> {
        let parts = parts.into();
        let mut all: Vec<Range<usize>> = Vec::new();
        for (member, part) in parts.iter().enumerate() {
            for range in part {
                if range.is_empty() || range.end > size {
                    let range = range.clone();
                    return Err(SplitError::Range {
                        member,
                        range,
                        size,
                    });
                }
                all.push(range.clone());
            }
        }
        all.sort_unstable_by_key(|r| (r.start, r.end));
        let mut at = 0;
        for range in all {
            if range.start > at {
                break;
            }
            at = at.max(range.end);
        }
        if at < size {
            return Err(SplitError::Gap { at, size });
        }
        Ok(Self { axis, parts })
    }

    /// The cut of an axis into one range per member, of these sizes in order; a size may be 0.
    pub fn by_sizes(axis: usize, sizes: &[usize]) -> Self {
        let mut start = 0;
        let parts: Vec<Part> = sizes
            .iter()
            .map(|n| {
                let range = start..start + n;
                start = range.end;
                if range.is_empty() {
                    Part::new()
                } else {
                    Part::from_iter([range])
                }
            })
            .collect();
        Self {
            axis,
            parts: parts.into(),
        }
    }

    /// The ranges of these elements, in their order.
    pub fn runs(elements: impl IntoIterator<Item = usize>) -> Part {
        let mut part = Part::new();
        for i in elements {
            match part.last_mut() {
                Some(last) if last.end == i => last.end += 1,
                _ => part.push(i..i + 1),
            }
        }
        part
    }

    /// The axis that is cut.
    pub const fn axis(&self) -> usize {
        self.axis
    }

    /// For each member the ranges it holds.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The ranges of one member; none if there is no such member.
    pub fn part(&self, member: usize) -> &[Range<usize>] {
        self.parts.get(member).map_or(&[], |p| p.as_slice())
    }

    /// Elements of the axis that a member holds.
    pub fn len(&self, member: usize) -> usize {
        self.part(member).iter().map(Range::len).sum()
    }

    /// Does a member hold nothing?
    pub fn is_empty(&self, member: usize) -> bool {
        self.part(member).is_empty()
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.parts.len()
    }

    /// Is the axis simply cut into one range per member, in member order, nothing held twice?
    pub fn is_plain(&self) -> bool {
        let mut at = 0;
        self.parts.iter().all(|part| match part.as_slice() {
            [] => true,
            [range] if range.start == at => {
                at = range.end;
                true
            }
            _ => false,
        })
    }

    /// Does no element lie on two members?
    pub fn is_disjoint(&self) -> bool {
        let mut all: Vec<&Range<usize>> = self.parts.iter().flatten().collect();
        all.sort_unstable_by_key(|r| r.start);
        all.is_sorted_by(|a, b| a.end <= b.start)
    }

    /// The elements of the axis that a member holds, in the order in which they lie in its tensor.
    pub fn elements(&self, member: usize) -> impl Iterator<Item = usize> {
        self.part(member).iter().cloned().flatten()
    }

    /// The cut of the elements `range` of the axis, counted from its start.
    #[must_use]
    pub fn within(&self, range: &Range<usize>) -> Self {
        let clip = |r: &Range<usize>| {
            let (start, end) = (r.start.max(range.start), r.end.min(range.end));
            (start < end).then(|| start - range.start..end - range.start)
        };
        let parts: Vec<Part> = self
            .parts
            .iter()
            .map(|p| p.iter().filter_map(clip).collect())
            .collect();
        Self {
            axis: self.axis,
            parts: parts.into(),
        }
    }

    /// The same cut of another axis.
    #[must_use]
    pub fn on_axis(&self, axis: usize) -> Self {
        Self {
            axis,
            parts: Arc::clone(&self.parts),
        }
    }

    /// The same cut with every element standing for `factor` of them (`[.., H]` -> `[.., H * D]`).
    #[must_use]
    pub fn times(&self, factor: usize) -> Self {
        let scale = |r: &Range<usize>| r.start * factor..r.end * factor;
        let parts: Vec<Part> = self
            .parts
            .iter()
            .map(|p| p.iter().map(scale).filter(|r| !r.is_empty()).collect())
            .collect();
        Self {
            axis: self.axis,
            parts: parts.into(),
        }
    }

    /// The same cut with every `divisor` elements as one; `None` if a range cuts one of them.
    pub fn over(&self, divisor: usize) -> Option<Self> {
        let divide = |r: &Range<usize>| {
            let whole =
                divisor > 0 && r.start.is_multiple_of(divisor) && r.end.is_multiple_of(divisor);
            whole.then(|| r.start / divisor..r.end / divisor)
        };
        let parts: Option<Vec<Part>> = self
            .parts
            .iter()
            .map(|p| p.iter().map(divide).collect())
            .collect();
        Some(Self {
            axis: self.axis,
            parts: parts?.into(),
        })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "axis {} as ", self.axis)?;
        for (i, part) in self.parts.iter().enumerate() {
            let sep = if i == 0 { "" } else { " | " };
            f.write_str(sep)?;
            if part.is_empty() {
                f.write_str("none")?;
            }
            for (j, r) in part.iter().enumerate() {
                let sep = if j == 0 { "" } else { "," };
                write!(f, "{sep}{}..{}", r.start, r.end)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Sharding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicated => f.write_str("replicated"),
            Self::Split(split) => write!(f, "split along {split}"),
            Self::Partial => f.write_str("partial sums"),
        }
    }
}

impl serde::Serialize for Sharding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_checked() {
        let part = |r: &[(usize, usize)]| Part::from_iter(r.iter().map(|(a, b)| *a..*b));
        let ok = Split::new(1, 8, vec![part(&[(0, 2), (4, 6)]), part(&[(2, 4), (6, 8)])]).unwrap();
        assert_eq!((ok.len(0), ok.is_plain(), ok.members()), (4, false, 2));
        assert_eq!(ok.to_string(), "axis 1 as 0..2,4..6 | 2..4,6..8");
        assert_eq!(ok.over(2).unwrap().times(2), ok);
        assert_eq!(ok.over(4), None);
        let shared = Split::new(
            0,
            2,
            vec![part(&[(0, 1)]), part(&[(0, 1)]), part(&[(1, 2)])],
        );
        assert!(!shared.unwrap().is_plain());
        let gap = Split::new(0, 8, vec![part(&[(0, 2)]), part(&[(3, 8)])]);
        assert_eq!(gap, Err(SplitError::Gap { at: 2, size: 8 }));
        assert!(Split::new(0, 8, vec![part(&[(0, 9)])]).is_err());
        assert!(Split::by_sizes(0, &[3, 0, 5]).is_plain());
        let shared = Split::new(0, 2, vec![part(&[(0, 2)]), part(&[(1, 2)])]).unwrap();
        assert!(ok.is_disjoint() && !shared.is_disjoint());
        assert!(ok.elements(1).eq([2, 3, 6, 7]));
        let within = ok.within(&(3..7));
        assert_eq!(within.to_string(), "axis 1 as 1..3 | 0..1,3..4");
    }
}
