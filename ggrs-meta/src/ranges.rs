//! Where the bytes of a tensor lie: the map from its own bytes, as if it were whole, to bytes of the members' parts. It
//! knows no device and moves nothing.
//!
//! A cut along an axis repeats with every row before that axis. Inside a row each member holds pieces, in the order in
//! which they lie in its part; a tensor that lies whole on a member is one row with one piece.

use std::ops::Range;

use ggrs_core::error::ShardError;
use ggrs_core::{Sharding, Split, TensorDesc};
use smallvec::SmallVec;

/// Bytes without a gap in the tensor and in a member's part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they begin in the tensor.
    pub logical: usize,
    /// Where they begin in the member's part.
    pub at: usize,
    /// How many.
    pub bytes: usize,
}

/// The map of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeMap {
    bytes: usize,
    parts: Vec<PartMap>,
    /// Bytes of the tensor that no member keeps, though somebody should.
    has_gaps: bool,
}

/// One member's part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartMap {
    bytes: usize,
    /// What the member holds.
    holds: Lane,
    /// What is read from it: what no member before it holds.
    answers: Lane,
}

/// Pieces that repeat in every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lane {
    /// Bytes of a row of the tensor.
    row_bytes: usize,
    /// Bytes of the member's part of it.
    own_bytes: usize,
    /// In the order in which they lie in the member's part.
    pieces: SmallVec<[Piece; 1]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    /// Bytes of the row.
    logical: Range<usize>,
    /// Where they begin in the member's part of the row.
    at: usize,
}

impl RangeMap {
    /// The map of a contiguous tensor that lies so over members; `keeps` says which of them keep their part.
    ///
    /// # Errors
    /// A cut that is not one of this tensor or inside a block; a partial sum.
    pub fn new(desc: &TensorDesc, sharding: &Sharding, keeps: &[bool]) -> Result<Self, ShardError> {
        let bytes = desc.bytes().ok_or(ShardError::Uncountable)?;
        match sharding {
            Sharding::Replicated => Ok(Self::replicated(bytes, keeps)),
            Sharding::Split(split) => Self::split(desc, bytes, split, keeps),
            Sharding::Partial => Err(ShardError::Partial),
        }
    }

    /// The map of bytes that every member has.
    pub fn replicated(bytes: usize, keeps: &[bool]) -> Self {
        let first = keeps.iter().position(|k| *k);
        let part = |(member, keeps): (usize, &bool)| {
            let lane = |is_there: bool| {
                if is_there {
                    Lane::whole(bytes)
                } else {
                    Lane::default()
                }
            };
            PartMap {
                bytes: if *keeps { bytes } else { 0 },
                holds: lane(*keeps),
                answers: lane(first == Some(member)),
            }
        };
        Self {
            bytes,
            parts: keeps.iter().enumerate().map(part).collect(),
            has_gaps: first.is_none() && bytes > 0,
        }
    }

    fn split(
        desc: &TensorDesc,
        bytes: usize,
        split: &Split,
        keeps: &[bool],
    ) -> Result<Self, ShardError> {
        let cut = AxisBytes::of(desc, split, keeps.len())?;
        let n_rows = bytes.checked_div(cut.row_bytes).unwrap_or(0);
        let mut taken: Vec<Range<usize>> = Vec::new();
        let mut parts = Vec::with_capacity(keeps.len());
        for (member, keeps) in keeps.iter().enumerate() {
            let mut own = Lane {
                row_bytes: cut.row_bytes,
                ..Lane::default()
            };
            let mut answers = own.clone();
            for range in split.part(member).iter().filter(|_| *keeps) {
                let range = cut.bytes(range);
                let at = own.own_bytes;
                own.own_bytes += range.len();
                for free in without(&range, &taken) {
                    let at = at + (free.start - range.start);
                    answers.push(free, at);
                }
                own.push(range.clone(), at);
                taken.push(range);
            }
            answers.own_bytes = own.own_bytes;
            let part_bytes = own.own_bytes.checked_mul(n_rows);
            parts.push(PartMap {
                bytes: part_bytes.ok_or(ShardError::Uncountable)?,
                holds: own.joined(n_rows),
                answers: answers.joined(n_rows),
            });
        }
        let has_gaps = bytes > 0 && !without(&(0..cut.row_bytes), &taken).is_empty();
        Ok(Self {
            bytes,
            parts,
            has_gaps,
        })
    }

    /// Bytes of the tensor.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of a member's part.
    pub fn part_bytes(&self, member: usize) -> usize {
        self.parts.get(member).map_or(0, |p| p.bytes)
    }

    /// What a member holds of these bytes of the tensor: all of it is written.
    pub fn held(&self, member: usize, range: Range<usize>) -> Runs<'_> {
        Runs::new(self.parts.get(member).map(|p| &p.holds), self.inside(range))
    }

    /// What of these bytes of the tensor is read from a member: nothing is read twice.
    pub fn answered(&self, member: usize, range: Range<usize>) -> Runs<'_> {
        Runs::new(
            self.parts.get(member).map(|p| &p.answers),
            self.inside(range),
        )
    }

    fn inside(&self, range: Range<usize>) -> Range<usize> {
        range.start.min(self.bytes)..range.end.min(self.bytes)
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.parts.len()
    }

    /// Can all of these bytes be read?
    pub fn is_held(&self, range: &Range<usize>) -> bool {
        if !self.has_gaps {
            return true;
        }
        let answered = (0..self.members()).flat_map(|m| self.answered(m, range.clone()));
        answered.map(|run| run.bytes).sum::<usize>() == range.len()
    }

    /// Do bytes from `from` on lie over the members here as those from `to` on do in `other`?
    pub fn lies_alike(&self, from: usize, other: &Self, to: usize) -> bool {
        let same = |(a, b): (&PartMap, &PartMap)| {
            let period = a.holds.period();
            a.holds.repeats_like(&b.holds) && from.abs_diff(to).is_multiple_of(period)
        };
        self.members() == other.members()
            && !self.has_gaps
            && !other.has_gaps
            && self.parts.iter().zip(&other.parts).all(same)
    }
}

/// A cut in bytes of a row.
struct AxisBytes {
    row_bytes: usize,
    /// Elements of the axis that are one unit: a block along the last axis.
    unit_elems: usize,
    unit_bytes: usize,
}

impl AxisBytes {
    fn of(desc: &TensorDesc, split: &Split, members: usize) -> Result<Self, ShardError> {
        if split.members() != members {
            return Err(ShardError::Members {
                expected: members,
                found: split.members(),
            });
        }
        let (axis, rank, sizes) = (split.axis(), desc.rank(), desc.shape.sizes());
        let (Some(&size), Some(inner)) = (sizes.get(axis), sizes.get(axis + 1..)) else {
            return Err(ShardError::Axis { axis, rank });
        };
        let ranges = || split.parts().iter().flatten();
        let covered = ranges().map(|r| r.end).max().unwrap_or(0);
        if covered != size {
            return Err(ShardError::Size {
                axis,
                covered,
                size,
            });
        }
        let block = desc.dtype.block_elems();
        let (unit_elems, unit_bytes) = match inner {
            [] => {
                let ends = ranges().flat_map(|r| [r.start, r.end]);
                if let Some(at) = ends.into_iter().find(|at| !at.is_multiple_of(block)) {
                    let dtype = desc.dtype;
                    return Err(ShardError::Block { dtype, at });
                }
                (block, Some(desc.dtype.block_bytes()))
            }
            inner => (1, desc.elem_bytes(inner.iter().product())),
        };
        let unit_bytes = unit_bytes.ok_or(ShardError::Uncountable)?;
        let row_bytes = (size / unit_elems).checked_mul(unit_bytes);
        Ok(Self {
            row_bytes: row_bytes.ok_or(ShardError::Uncountable)?,
            unit_elems,
            unit_bytes,
        })
    }

    fn bytes(&self, range: &Range<usize>) -> Range<usize> {
        let at = |elem: usize| elem / self.unit_elems * self.unit_bytes;
        at(range.start)..at(range.end)
    }
}

/// What of `range` is in none of `taken`.
fn without(range: &Range<usize>, taken: &[Range<usize>]) -> SmallVec<[Range<usize>; 2]> {
    let mut free: SmallVec<[Range<usize>; 2]> = SmallVec::from_elem(range.clone(), 1);
    for t in taken {
        let parts = free
            .iter()
            .flat_map(|f| [f.start..f.end.min(t.start), f.start.max(t.end)..f.end]);
        free = parts.filter(|r| !r.is_empty()).collect();
    }
    free
}

impl Lane {
    /// All of `bytes` bytes as one piece.
    fn whole(bytes: usize) -> Self {
        let piece = Piece {
            logical: 0..bytes,
            at: 0,
        };
        Self {
            row_bytes: bytes,
            own_bytes: bytes,
            pieces: SmallVec::from_elem(piece, 1),
        }
    }

    /// Adds a piece, or lengthens the last one.
    fn push(&mut self, logical: Range<usize>, at: usize) {
        if logical.is_empty() {
            return;
        }
        if let Some(last) = self.pieces.last_mut()
            && last.logical.end == logical.start
            && last.at + last.logical.len() == at
        {
            last.logical.end = logical.end;
            return;
        }
        self.pieces.push(Piece { logical, at });
    }

    /// As one row, if all rows are whole here.
    fn joined(self, n_rows: usize) -> Self {
        match self.pieces.as_slice() {
            [piece]
                if piece.logical.len() == self.row_bytes && self.own_bytes == self.row_bytes =>
            {
                Self::whole(self.row_bytes * n_rows)
            }
            _ => self,
        }
    }

    /// Is the tensor whole here?
    fn is_whole(&self) -> bool {
        matches!(self.pieces.as_slice(), [p] if p.at == 0 && p.logical.len() == self.row_bytes)
    }

    /// Bytes after which the pieces repeat.
    fn period(&self) -> usize {
        if self.pieces.is_empty() || self.is_whole() {
            1
        } else {
            self.row_bytes
        }
    }

    /// Are the same pieces in every row? The number of rows does not matter.
    fn repeats_like(&self, other: &Self) -> bool {
        (self.is_whole() && other.is_whole()) || self == other
    }
}

/// The runs of one member for a range of the tensor, in the order in which they lie in the member's part.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    lane: Option<&'a Lane>,
    range: Range<usize>,
    row: usize,
    piece: usize,
}

impl<'a> Runs<'a> {
    fn new(lane: Option<&'a Lane>, range: Range<usize>) -> Self {
        let lane = lane.filter(|l| l.row_bytes > 0 && !l.pieces.is_empty());
        let row = lane.map_or(0, |l| range.start / l.row_bytes);
        Self {
            lane,
            range,
            row,
            piece: 0,
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let lane = self.lane?;
        loop {
            let row = self.row * lane.row_bytes;
            if row >= self.range.end {
                return None;
            }
            let Some(piece) = lane.pieces.get(self.piece) else {
                (self.row, self.piece) = (self.row + 1, 0);
                continue;
            };
            self.piece += 1;
            let start = self.range.start.max(row + piece.logical.start);
            let end = self.range.end.min(row + piece.logical.end);
            if start < end {
                let skipped = start - (row + piece.logical.start);
                return Some(Run {
                    logical: start,
                    at: self.row * lane.own_bytes + piece.at + skipped,
                    bytes: end - start,
                });
            }
        }
    }
}

/// The byte ranges of a strided view of a tensor's storage, in the view's order.
#[derive(Clone, Debug)]
pub struct ViewRanges {
    /// Size and stride in bytes of each axis that is walked, outermost first.
    axes: SmallVec<[(usize, usize); 4]>,
    /// Position along each.
    at: SmallVec<[usize; 4]>,
    start: usize,
    bytes: usize,
    is_done: bool,
}

impl ViewRanges {
    /// The ranges of a view; each is as long as the view's innermost axes without gaps.
    ///
    /// # Errors
    /// A view whose bytes cannot be counted.
    pub fn new(view: &TensorDesc) -> Result<Self, ShardError> {
        let (shape, layout) = (&view.shape, &view.layout);
        let sizes = shape.sizes();
        let is_block = view.dtype.is_block();
        // Blocks are never cut: the last axis of a block format has no gaps.
        let deepest = view.rank().saturating_sub(usize::from(is_block));
        let inner = (0..deepest).find(|axis| layout.contiguous_from(shape, *axis));
        let inner = inner.unwrap_or(deepest);
        let bytes_of = |elems: usize| view.elem_bytes(elems).ok_or(ShardError::Uncountable);
        let axes = sizes.iter().zip(layout.strides()).take(inner);
        let axes = axes.map(|(size, stride)| Ok((*size, bytes_of(*stride)?)));
        let axes: SmallVec<[(usize, usize); 4]> = axes.collect::<Result<_, ShardError>>()?;
        let is_empty = sizes.contains(&0);
        let run: usize = sizes.get(inner..).unwrap_or_default().iter().product();
        view.span_bytes().ok_or(ShardError::Uncountable)?;
        Ok(Self {
            at: SmallVec::from_elem(0, axes.len()),
            start: if is_empty {
                0
            } else {
                bytes_of(layout.offset())?
            },
            bytes: bytes_of(run)?,
            is_done: is_empty,
            axes,
        })
    }
}

impl Iterator for ViewRanges {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.is_done {
            return None;
        }
        let steps = self.axes.iter().zip(&self.at);
        let start = self.start + steps.map(|((_, stride), at)| stride * at).sum::<usize>();
        self.is_done = true;
        for ((size, _), at) in self.axes.iter().zip(&mut self.at).rev() {
            *at += 1;
            if *at < *size {
                self.is_done = false;
                break;
            }
            *at = 0;
        }
        Some(start..start + self.bytes)
    }
}
