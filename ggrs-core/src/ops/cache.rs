//! Ops that write in place: rows by id, a tensor over another, keys and values into a paged cache.

use crate::ops::movement::batch_of_ids;
use crate::ops::operands::Operand;
use crate::ops::{Alias, OpSpec, Operands, Outputs, SplitOperand, SplitRule, bytes, number};
use crate::{DTypeSet, Dim, OpError, Sharding, TensorDesc};

/// The written tensor is the output: same storage, same layout.
fn in_place(dst: Operand<'_>) -> Outputs {
    Outputs::from_iter([dst.desc.clone()])
}

/// What is written may be read from floats; what is stored may be anything with a quantiser.
fn writable(dst: Operand<'_>, src: Operand<'_>) -> Result<(), OpError> {
    if dst.desc.dtype.is_int() {
        src.dtype(DTypeSet::One(dst.desc.dtype))?;
    } else {
        dst.dtype(DTypeSet::Writable)?;
        src.dtype(DTypeSet::Float)?;
    }
    Ok(())
}

/// Bytes of the part written and of what it is read from.
fn written_bytes(ins: &[&TensorDesc]) -> f64 {
    let [dst, src, rest @ ..] = ins else {
        return 0.0;
    };
    let part = number(src.shape.elems().and_then(|n| dst.elem_bytes(n)));
    part + bytes(src) + rest.iter().map(|d| bytes(d)).sum::<f64>()
}

/// `dst[.., ids[i], :] = rows[.., i, :]`, converted to the type of `dst`. An id outside is a fault of the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetRows;

impl OpSpec for SetRows {
    fn stem(&self) -> &'static str {
        "set_rows"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["dst", "rows", "ids"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [dst, rows, ids] = ins.exactly()?;
        let dst = dst
            .min_rank(2, "at least 2 axes [.., rows, width]")?
            .rows()?;
        let rows = rows.rank(dst.desc.rank(), "as many axes as dst")?.rows()?;
        writable(dst, rows)?;
        rows.same(0, "row width", dst.role, dst.from_end(0))?;
        for (a, b) in rows.shape().leading(2).iter().zip(dst.shape().leading(2)) {
            if a != b {
                return Err(OpError::Mismatch {
                    what: "batch size",
                    a: rows.role,
                    a_dim: *a,
                    b: dst.role,
                    b_dim: *b,
                });
            }
        }
        let ids = ids
            .dtype(DTypeSet::Ids)?
            .rank(dst.desc.rank() - 1, "one axis fewer than dst")?;
        ids.same(0, "number of rows", rows.role, rows.from_end(1))?;
        batch_of_ids(dst.shape(), ids.shape())?;
        Ok(in_place(dst))
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn bytes(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        written_bytes(ins)
    }

    fn alias(&self) -> Alias {
        Alias::InPlace
    }

    /// A cut of the width or of a batch axis stays, with the rows cut alike.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [dst, _, ids] = ins else {
            return replicated;
        };
        match dst.split() {
            Some(cut) if dst.cut_from_end(1).is_none() => {
                let batch = dst.cut_from_end(0).is_none();
                let alike = ids.desc.shape.dim(cut.axis()) == dst.desc.shape.dim(cut.axis());
                let of_ids = if batch && alike {
                    dst.sharding.clone()
                } else {
                    Sharding::Replicated
                };
                SplitRule::new(
                    [dst.sharding.clone(), dst.sharding.clone(), of_ids],
                    [dst.sharding.clone()],
                )
            }
            _ => replicated,
        }
    }
}

/// `dst = src`, same shape, any strides on either side, converted to the type of `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store;

impl OpSpec for Store {
    fn stem(&self) -> &'static str {
        "store"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["dst", "src"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [dst, src] = ins.exactly()?;
        writable(dst, src)?;
        src.rank(dst.desc.rank(), "as many axes as dst")?;
        for (a, b) in src.shape().dims().iter().zip(dst.shape().dims()) {
            if a != b {
                return Err(OpError::Mismatch {
                    what: "axis size",
                    a: src.role,
                    a_dim: *a,
                    b: dst.role,
                    b_dim: *b,
                });
            }
        }
        Ok(in_place(dst))
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn alias(&self) -> Alias {
        Alias::InPlace
    }

    /// Any cut stays, with the source cut alike.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        match ins {
            [dst, _] if dst.split().is_some() => {
                let s = dst.sharding;
                SplitRule::new([s.clone(), s.clone()], [s.clone()])
            }
            _ => SplitRule::replicated(ins.len(), outs.len()),
        }
    }
}

/// Writes row `t` of `rows` `[T, ..]` to the cell of a paged cache `[cells, ..]` that `slot[t]` and `position[t]`
/// name: `cell = table[slot][position / block] * block + position % block`. A token with slot < 0 is padding: nothing
/// is written for it. Positions, slots and the table are data, so one executable serves every step.
///
/// A slot, a position or a block outside its table, or a cell outside the cache, is a fault of the run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheWrite {
    /// Cells per block of the page table.
    pub block: usize,
}

impl OpSpec for CacheWrite {
    fn stem(&self) -> &'static str {
        "cache_write"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["cache", "rows", "positions", "slots", "page table"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [cache, rows, positions, slots, table] = ins.exactly()?;
        let cache = cache
            .min_rank(2, "at least 2 axes [cells, ..]")?
            .contiguous()?
            .dtype(DTypeSet::Kv)?;
        let rows = rows
            .rank(cache.desc.rank(), "as many axes as the cache")?
            .rows()?
            .dtype(DTypeSet::Float)?;
        for i in 0..cache.desc.rank() - 1 {
            rows.same(i, "row size", cache.role, cache.from_end(i))?;
        }
        let tokens = rows.shape().dim(0).unwrap_or(Dim::Fixed(0));
        page_operands(positions, slots, table, rows.role, tokens, self.block)?;
        Ok(in_place(cache))
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn bytes(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        written_bytes(ins)
    }

    fn alias(&self) -> Alias {
        Alias::InPlace
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("block", self.block.to_string())]
    }

    /// A cut of any axis but that of the cells stays, with the rows cut alike.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let mut rule = SplitRule::replicated(ins.len(), outs.len());
        let cache = ins.first().map(|c| c.sharding);
        if let Some(Sharding::Split(cut)) = cache
            && cut.axis() > 0
        {
            let alike = rule.inputs.iter_mut().take(2).chain(&mut rule.outputs);
            alike.for_each(|s| *s = Sharding::Split(cut.clone()));
        }
        rule
    }
}

/// Positions `[T]`, slots `[T]` and page table `[slots, blocks]`, all I32; `block` at least 1.
pub(crate) fn page_operands(
    positions: Operand<'_>,
    slots: Operand<'_>,
    table: Operand<'_>,
    tokens_of: &'static str,
    tokens: Dim,
    block: usize,
) -> Result<(), OpError> {
    positions
        .dtype(DTypeSet::I32)?
        .contiguous()?
        .vector("number of tokens", tokens_of, tokens)?;
    slots
        .dtype(DTypeSet::I32)?
        .contiguous()?
        .vector("number of tokens", tokens_of, tokens)?;
    table
        .dtype(DTypeSet::I32)?
        .contiguous()?
        .rank(2, "2 axes [slots, blocks]")?;
    if block == 0 {
        return Err(OpError::Param {
            name: "block",
            got: 0.0,
            rule: "at least 1",
        });
    }
    Ok(())
}
