//! Views: the same storage read through another shape or layout. Nothing runs.

use std::ops::Range;

use smallvec::SmallVec;

use crate::ops::operands::Operand;
use crate::ops::{Alias, Op, OpSpec, Operands, Outputs, SplitOperand, SplitRule};
use crate::{Dim, Layout, MAX_RANK, OpError, Shape, Sharding, Split, TensorDesc};

const ROLES: &[&str] = &["x"];

/// A view's output, checked to keep blocks whole and to have few enough axes.
fn view(x: Operand<'_>, shape: Shape, layout: Layout) -> Result<Outputs, OpError> {
    let dtype = x.desc.dtype;
    if shape.rank() > MAX_RANK {
        return Err(OpError::RankLimit {
            shape,
            max: MAX_RANK,
        });
    }
    if !layout.keeps_blocks(dtype, &shape) {
        return Err(OpError::CutsBlock {
            role: x.role,
            dtype,
        });
    }
    Ok(Outputs::from_iter([TensorDesc {
        dtype,
        shape,
        layout,
    }]))
}

macro_rules! is_view {
    ($stem:literal) => {
        fn stem(&self) -> &'static str {
            $stem
        }

        fn roles(&self) -> &'static [&'static str] {
            ROLES
        }

        fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
            0.0
        }

        fn bytes(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
            0.0
        }

        fn alias(&self) -> Alias {
            Alias::View
        }
    };
}

/// A view of sums is one of each sum; a view of parts is what `through` makes of the cut, or else of the whole.
fn viewed(
    ins: &[SplitOperand<'_>],
    outs: &[&TensorDesc],
    through: impl FnOnce(&Split) -> Option<Split>,
) -> SplitRule {
    if let Some(summed) = SplitRule::summed(ins) {
        return summed;
    }
    match ins {
        [x] => match x.split().and_then(through) {
            Some(cut) => SplitRule::new([x.sharding.clone()], [Sharding::Split(cut)]),
            None => SplitRule::replicated(1, outs.len()),
        },
        _ => SplitRule::replicated(ins.len(), outs.len()),
    }
}

/// The cut of a tensor of shape `from` after a reshape to `to`.
fn reshaped(split: &Split, from: &Shape, to: &Shape) -> Option<Split> {
    let before = |shape: &Shape, axis: usize| Shape::new(shape.dims().iter().take(axis).copied());
    let size = from.dim(split.axis())?;
    let outer = before(from, split.axis());
    // Of several axes that begin at the same place, all but the last have size 1.
    let axis = (0..to.rank()).rfind(|a| before(to, *a).same_elems(&outer))?;
    let split = split.on_axis(axis);
    match (size, to.dim(axis)?) {
        (a, b) if a == b => Some(split),
        (Dim::Fixed(a), Dim::Fixed(b)) if a > 0 && b.is_multiple_of(a) => Some(split.times(b / a)),
        (Dim::Fixed(a), Dim::Fixed(b)) if b > 0 && a.is_multiple_of(b) => split.over(a / b),
        _ => None,
    }
}

/// The same elements in the same order under another shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

impl OpSpec for Reshape {
    is_view!("reshape");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let from = x.shape();
        if !from.same_elems(&self.shape) {
            return Err(OpError::ElementCount {
                from: from.clone(),
                to: self.shape.clone(),
            });
        }
        let layout =
            x.desc
                .layout
                .reshape(from, &self.shape)
                .ok_or_else(|| OpError::NeedsCopy {
                    from: from.clone(),
                    strides: x.desc.layout.strides().to_vec(),
                    to: self.shape.clone(),
                })?;
        view(x, self.shape.clone(), layout)
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("shape", self.shape.to_string())]
    }

    /// A cut passes if its axis begins a group of axes on both sides: `[T, H * D]` <-> `[T, H, D]` along H.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let through = |split: &Split| {
            let (x, out) = (ins.first()?, outs.first()?);
            reshaped(split, &x.desc.shape, &out.shape)
        };
        viewed(ins, outs, through)
    }

    /// To the member's own shape.
    fn on_member(&self, _: usize, _: &SplitRule, _: &[&TensorDesc], outs: &[Shape]) -> Option<Op> {
        let shape = outs.first()?.clone();
        Some(Self { shape }.into())
    }
}

/// Axes in another order: output axis `i` is input axis `axes[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permute {
    /// The order.
    pub axes: SmallVec<[usize; 4]>,
}

impl OpSpec for Permute {
    is_view!("permute");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.desc.rank()) {
            return Err(OpError::Permutation {
                axes: self.axes.to_vec(),
                rank: x.desc.rank(),
            });
        }
        let shape = Shape::new(self.axes.iter().filter_map(|&a| x.shape().dim(a)));
        view(x, shape, x.desc.layout.permute(&self.axes))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("axes", format!("{:?}", self.axes))]
    }

    /// The cut goes where its axis goes.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        viewed(ins, outs, |split| {
            let to = self.axes.iter().position(|a| *a == split.axis())?;
            Some(split.on_axis(to))
        })
    }
}

/// `len` elements of one axis, from `start`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}

impl Slice {
    /// Where the slice lies in a member's part of its axis; `None` if there is nothing of it or in several places.
    fn run(&self, split: &Split, member: usize) -> Option<Range<usize>> {
        let sliced = self.start..self.start + self.len;
        let is_in = |i: usize| sliced.contains(&i);
        let start = split.elements(member).position(is_in)?;
        let len = split.elements(member).filter(|i| is_in(*i)).count();
        let mut run = split.elements(member).skip(start).take(len);
        run.all(is_in).then(|| start..start + len)
    }
}

impl OpSpec for Slice {
    is_view!("slice");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let axis = self.axis;
        let dim = x.shape().dim(axis).ok_or_else(|| OpError::Axis {
            role: x.role,
            axis,
            shape: x.shape().clone(),
        })?;
        let Dim::Fixed(size) = dim else {
            let why = "its size is known only when the graph is bound; slice another axis or use get_rows";
            return Err(OpError::Symbolic {
                role: x.role,
                axis,
                dim,
                why,
            });
        };
        let end = self.start.saturating_add(self.len);
        if end > size {
            return Err(OpError::SliceRange {
                axis,
                start: self.start,
                end,
                dim,
            });
        }
        view(
            x,
            x.shape().clone().with(axis, self.len),
            x.desc.layout.slice(axis, self.start),
        )
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![
            ("axis", self.axis.to_string()),
            (
                "range",
                format!("{}..{}", self.start, self.start + self.len),
            ),
        ]
    }

    /// A cut of another axis passes. Of the same one, the slice's share of every part, if it is one run of the part and
    /// leaves nobody idle.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        viewed(ins, outs, |split| {
            if split.axis() != self.axis {
                return Some(split.clone());
            }
            let held = (0..split.members()).filter(|m| !split.is_empty(*m));
            let runs = held.map(|m| self.run(split, m)).all(|run| run.is_some());
            runs.then(|| split.within(&(self.start..self.start + self.len)))
        })
    }

    /// The run of the member's own part.
    fn on_member(
        &self,
        member: usize,
        rule: &SplitRule,
        _: &[&TensorDesc],
        _: &[Shape],
    ) -> Option<Op> {
        match rule.inputs.first() {
            Some(Sharding::Split(split)) if split.axis() == self.axis => {
                let run = self.run(split, member).unwrap_or(0..0);
                let op = Self {
                    axis: self.axis,
                    start: run.start,
                    len: run.len(),
                };
                Some(op.into())
            }
            _ => None,
        }
    }
}

/// Axes of size 1 repeated to `shape`, aligned at the last axis; new leading axes are added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    /// The shape to fill.
    pub shape: Shape,
}

impl OpSpec for Broadcast {
    is_view!("broadcast");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let from = x.shape();
        let fits = from.rank() <= self.shape.rank()
            && from
                .dims()
                .iter()
                .rev()
                .zip(self.shape.dims().iter().rev())
                .all(|(a, b)| a == b || *a == Dim::Fixed(1));
        if !fits {
            return Err(OpError::Broadcast {
                a: from.clone(),
                b: self.shape.clone(),
            });
        }
        view(
            x,
            self.shape.clone(),
            x.desc.layout.broadcast(from, &self.shape),
        )
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("shape", self.shape.to_string())]
    }

    /// A cut passes; an axis that is repeated is not cut.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        viewed(ins, outs, |_| ins.first()?.cut_in(outs.first()?))
    }

    /// To the member's own shape.
    fn on_member(&self, _: usize, _: &SplitRule, _: &[&TensorDesc], outs: &[Shape]) -> Option<Op> {
        let shape = outs.first()?.clone();
        Some(Self { shape }.into())
    }
}
