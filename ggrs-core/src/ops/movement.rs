//! Ops that move elements without computing: gapless copies, casts, joins, rows by id.

use crate::ops::moe::Window;
use crate::ops::operands::{fresh, one};
use crate::ops::{Op, OpSpec, Operands, Outputs, SplitOperand, SplitRule, bytes, number};
use crate::shard::Part;
use crate::{DType, DTypeSet, Dim, OpError, Shape, Sharding, Split, TensorDesc};

/// A gapless copy of any view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contiguous;

impl OpSpec for Contiguous {
    fn stem(&self) -> &'static str {
        "contiguous"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        one(x.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    /// Any cut passes, and so do sums.
    fn split(&self, ins: &[SplitOperand<'_>], _: &[&TensorDesc]) -> SplitRule {
        SplitRule::summed(ins).unwrap_or_else(|| SplitRule::elementwise(ins))
    }
}

/// Could the operand's parts be stored as `dtype`, in whole blocks?
pub(super) fn keeps_blocks(x: &SplitOperand<'_>, dtype: DType) -> bool {
    x.cut_from_end(0)
        .is_none_or(|cut| cut.over(dtype.block_elems()).is_some())
}

/// A gapless copy in another dtype. Floats are rounded to nearest even; block formats follow ggml's quantisers.
///
/// Integers cast to integers only; floats and block formats to floats and to the formats with a quantiser.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    /// The new dtype.
    pub dtype: DType,
}

impl OpSpec for Cast {
    fn stem(&self) -> &'static str {
        "cast"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        if self.dtype.is_int() {
            x.dtype(DTypeSet::Ids)?;
        } else {
            x.dtype(DTypeSet::Weights)?;
            if !DTypeSet::Writable.contains(self.dtype) {
                return Err(OpError::NoQuantiser { dtype: self.dtype });
            }
        }
        one(self.dtype, x.shape().clone())
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("dtype", self.dtype.to_string())]
    }

    /// Any cut passes that keeps the new dtype's blocks whole; sums, if nothing is converted.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        match ins {
            [x] if x.is_partial() && x.desc.dtype == self.dtype => SplitRule::passed(x.sharding, 1),
            [x] if keeps_blocks(x, self.dtype) => SplitRule::elementwise(ins),
            _ => SplitRule::replicated(ins.len(), outs.len()),
        }
    }
}

/// Tensors joined along `axis`; all other axes and the dtype agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// The axis that grows.
    pub axis: usize,
}

impl Concat {
    /// The cut of the joined axis if all operands are cut along it, and every member holds some of each or nothing.
    fn joined(&self, ins: &[SplitOperand<'_>]) -> Option<Split> {
        let cuts: Vec<&Split> = ins
            .iter()
            .map(|x| x.cut_of(self.axis))
            .collect::<Option<_>>()?;
        let mut parts = vec![Part::new(); cuts.first()?.members()];
        let mut start = 0;
        for (x, cut) in ins.iter().zip(&cuts) {
            for (part, of_x) in parts.iter_mut().zip(cut.parts()) {
                part.extend(of_x.iter().map(|r| start + r.start..start + r.end));
            }
            start += x.desc.shape.dim(self.axis)?.fixed()?;
        }
        let held = |m: usize| cuts.iter().filter(|c| !c.is_empty(m)).count();
        let even = (0..parts.len()).all(|m| held(m) == 0 || held(m) == cuts.len());
        let cut = Split::new(self.axis, start, parts).ok()?;
        even.then_some(cut)
    }
}

impl OpSpec for Concat {
    fn stem(&self) -> &'static str {
        "concat"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["first", "next"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let Some(first) = ins.iter().next() else {
            return Err(OpError::Arity {
                expected: 2,
                got: 0,
            });
        };
        let axis = self.axis;
        let mut total = 0usize;
        for x in ins.iter() {
            x.dtype(DTypeSet::One(first.desc.dtype))?
                .rank(first.desc.rank(), "as many axes as the first")?;
            let dim = x.shape().dim(axis).ok_or_else(|| OpError::Axis {
                role: x.role,
                axis,
                shape: x.shape().clone(),
            })?;
            let Dim::Fixed(n) = dim else {
                return Err(OpError::Symbolic {
                    role: x.role,
                    axis,
                    dim,
                    why: "the joined axis must have a fixed size",
                });
            };
            total = total.saturating_add(n);
            for (a, b) in x
                .shape()
                .dims()
                .iter()
                .zip(first.shape().dims())
                .enumerate()
                .filter(|(i, _)| *i != axis)
                .map(|(_, p)| p)
            {
                if a != b {
                    let what = "an axis that is not joined";
                    return Err(OpError::Mismatch {
                        what,
                        a: x.role,
                        a_dim: *a,
                        b: first.role,
                        b_dim: *b,
                    });
                }
            }
        }
        let dtype = first.desc.dtype;
        if axis + 1 == first.desc.rank() && dtype.is_block() {
            return Err(OpError::CutsBlock {
                role: first.role,
                dtype,
            });
        }
        one(dtype, first.shape().clone().with(axis, total))
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("axis", self.axis.to_string())]
    }

    /// A cut of another axis passes, the same in all operands. Operands that are all cut along the joined axis are
    /// joined on each member. Sums are joined.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let alike = |s: &Sharding| SplitRule::new(ins.iter().map(|_| s.clone()), [s.clone()]);
        let mut cuts = ins.iter().filter_map(SplitOperand::split);
        if ins.iter().all(SplitOperand::is_partial) {
            alike(&Sharding::Partial)
        } else if let Some(cut) = cuts.find(|s| s.axis() != self.axis) {
            alike(&Sharding::Split(cut.clone()))
        } else if let Some(cut) = self.joined(ins) {
            let inputs = ins.iter().map(|x| x.sharding.clone());
            SplitRule::new(inputs, [Sharding::Split(cut)])
        } else {
            SplitRule::replicated(ins.len(), outs.len())
        }
    }
}

/// Rows of `table` `[.., R, width]` picked by `ids` `[.., n]`: `[.., n, width]`; floats and blocks come out as F32,
/// integers as they are. The axes before the last must agree or be 1 in `ids`.
///
/// An id below 0 or not below `R` is a fault of the run. With a [`Window`], the table holds some of the rows: ids of
/// the others give zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GetRows {
    /// Which rows the table holds, if not all.
    pub window: Option<Window>,
}

impl OpSpec for GetRows {
    fn stem(&self) -> &'static str {
        "get_rows"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["table", "ids"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [table, ids] = ins.exactly()?;
        let table = table
            .min_rank(2, "at least 2 axes [.., rows, width]")?
            .rows()?;
        let ids = ids
            .dtype(DTypeSet::Ids)?
            .rank(table.desc.rank() - 1, "one axis fewer than the table")?;
        Window::check(self.window, table.from_end(1))?;
        batch_of_ids(&table.desc.shape, ids.shape())?;
        let n = ids.from_end(0);
        let mut dims = table.shape().leading(2).to_vec();
        dims.extend([n, table.from_end(0)]);
        let dtype = if table.desc.dtype.is_int() {
            table.desc.dtype
        } else {
            DType::F32
        };
        Ok(Outputs::from_iter([fresh(dtype, Shape::new(dims))?]))
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn bytes(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        // Only the rows picked are read.
        let (Some(table), Some(out)) = (ins.first(), outs.first()) else {
            return 0.0;
        };
        let picked = number(out.shape.elems().and_then(|n| table.elem_bytes(n)));
        picked + bytes(out) + ins.get(1).map_or(0.0, |d| bytes(d))
    }

    /// A table cut by width gives rows cut by width, one cut into runs of rows gives sums (zeros for rows elsewhere),
    /// sums give sums. Ids cut along their last axis pick for each member; other axes are cut alike in both.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let ([table, ids], Some(out)) = (ins, outs.first()) else {
            return replicated;
        };
        let whole = Sharding::Replicated;
        let width = out.rank().saturating_sub(1);
        let sums = out.dtype == DType::F32;
        let alike = |cut: &&Split| ids.desc.shape.dim(cut.axis()) == out.shape.dim(cut.axis());
        if let Some(cut) = table.cut_from_end(0) {
            let cut = Sharding::Split(cut.on_axis(width));
            SplitRule::new([table.sharding.clone(), whole], [cut])
        } else if let Some(cut) = table.cut_from_end(1) {
            if sums && cut.is_plain() && table.desc.rank() == 2 {
                SplitRule::new([table.sharding.clone(), whole], [Sharding::Partial])
            } else {
                replicated
            }
        } else if table.is_partial() && sums {
            SplitRule::new([Sharding::Partial, whole], [Sharding::Partial])
        } else if let Some(cut) = ids.cut_from_end(0) {
            SplitRule::new(
                [whole, ids.sharding.clone()],
                [Sharding::Split(cut.clone())],
            )
        } else if let Some(cut) = table.split().or_else(|| ids.split().filter(alike)) {
            // A batch axis: the same in the table, in the ids and in the result; ids may have 1 for all.
            let alike = alike(&cut);
            let cut = Sharding::Split(cut.clone());
            let of_ids = if alike { cut.clone() } else { whole };
            SplitRule::new([cut.clone(), of_ids], [cut])
        } else {
            replicated
        }
    }

    /// The window of rows that the member holds.
    fn on_member(
        &self,
        member: usize,
        rule: &SplitRule,
        ins: &[&TensorDesc],
        _: &[Shape],
    ) -> Option<Op> {
        let rows = ins.first()?.rank().checked_sub(2)?;
        let window = Window::of_member(self.window, member, rule, ins, rows)?;
        let window = Some(window);
        Some(Self { window }.into())
    }
}

/// The axes before the last of `ids` must equal the table's batch axes or be 1.
pub(crate) fn batch_of_ids(table: &Shape, ids: &Shape) -> Result<(), OpError> {
    for (t, i) in table.leading(2).iter().zip(ids.leading(1)) {
        if t != i && *i != Dim::Fixed(1) {
            return Err(OpError::Mismatch {
                what: "batch size",
                a: "table",
                a_dim: *t,
                b: "ids",
                b_dim: *i,
            });
        }
    }
    Ok(())
}
