//! Scaled dot-product attention. Who sees whom is data: one executable serves every step.

use crate::ops::cache::page_operands;
use crate::ops::operands::{Operand, finite, multiple, one, positive};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems, number};
use crate::shard::Part;
use crate::{DType, DTypeSet, Dim, OpError, Real, Shape, Sharding, Split, TensorDesc};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// All of them.
    Full,
    /// Those the mask leaves: it is added to the scores, -inf hides a key.
    Mask,
    /// Keys lie in a paged cache. The query of token `t` sees positions `p` of `slot[t]` with `p <= position[t]` and,
    /// with a window `w`, `p > position[t] - w`. Position `p` of a slot is the cell
    /// `table[slot][p / block] * block + p % block`. A token with slot < 0 is padding and gives zeros.
    Paged {
        /// Cells per block of the page table.
        block: usize,
        /// Sliding window in tokens, if any.
        window: Option<usize>,
    },
}

/// `softmax(scale * q k^T + ..) v` with grouped heads: query head `h` reads key head `h / (H / Hk)`.
///
/// Dense (`Full`, `Mask`): q `[B, T, H, D]`, k `[B, C, Hk, D]`, v `[B, C, Hk, Dv]`, mask `[B or 1, H or 1, T, C]`
/// -> `[B, T, H, Dv]`. Paged: q `[T, H, D]`, caches `[cells, Hk, D]` and `[cells, Hk, Dv]`, positions and slots
/// `[T]`, page table `[slots, blocks]` -> `[T, H, Dv]`. Sinks, if any, are F32 `[H]`: a score that joins the sum and
/// has no value. A row that sees nothing gives zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Factor on the scores.
    pub scale: Real,
    /// Scores become `cap * tanh(score / cap)`, if any.
    pub softcap: Option<Real>,
    /// Which keys a query sees.
    pub visibility: Visibility,
    /// Is there an operand of sinks?
    pub sinks: bool,
}

impl Attention {
    /// The widest head that a device must handle.
    pub const MAX_HEAD_WIDTH: usize = 512;

    fn arity(&self) -> usize {
        let extra = match self.visibility {
            Visibility::Full => 0,
            Visibility::Mask => 1,
            Visibility::Paged { .. } => 3,
        };
        3 + extra + usize::from(self.sinks)
    }

    fn heads(q: Operand<'_>, k: Operand<'_>, v: Operand<'_>) -> Result<Shape, OpError> {
        let width = q.fixed_from_end(0, "the width of a head must be fixed")?;
        for (what, got) in [
            ("key width", width),
            ("value width", v.fixed_from_end(0, "must be fixed")?),
        ] {
            if got == 0 || got > Self::MAX_HEAD_WIDTH {
                return Err(OpError::TooLarge {
                    what,
                    got,
                    max: Self::MAX_HEAD_WIDTH,
                });
            }
        }
        k.same(0, "key width", q.role, q.from_end(0))?;
        v.same(1, "number of key heads", k.role, k.from_end(1))?;
        v.same(2, "number of keys", k.role, k.from_end(2))?;
        let n_kv = k.fixed_from_end(1, "the number of heads must be fixed")?;
        multiple(
            "number of query heads",
            q.from_end(1),
            "that of key heads",
            n_kv,
        )?;
        Ok(q.shape().clone().with(q.desc.rank() - 1, v.from_end(0)))
    }
}

impl OpSpec for Attention {
    fn stem(&self) -> &'static str {
        "attention"
    }

    fn roles(&self) -> &'static [&'static str] {
        match self.visibility {
            Visibility::Full => &["queries", "keys", "values", "sinks"],
            Visibility::Mask => &["queries", "keys", "values", "mask", "sinks"],
            Visibility::Paged { .. } => &[
                "queries",
                "key cache",
                "value cache",
                "positions",
                "slots",
                "page table",
                "sinks",
            ],
        }
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        finite("scale", self.scale.0)?;
        if let Some(cap) = self.softcap {
            positive("softcap", cap.0)?;
        }
        let all: Vec<Operand<'_>> = ins.iter().collect();
        let [q, k, v, rest @ ..] = all.as_slice() else {
            return Err(OpError::Arity {
                expected: self.arity(),
                got: ins.len(),
            });
        };
        if ins.len() != self.arity() {
            return Err(OpError::Arity {
                expected: self.arity(),
                got: ins.len(),
            });
        }
        let (k, v) = (
            k.dtype(DTypeSet::Kv)?.rows()?,
            v.dtype(DTypeSet::Kv)?.rows()?,
        );
        let q = q.dtype(DTypeSet::Float)?.rows()?;
        let (out, rest) = match (self.visibility, rest) {
            (Visibility::Paged { block, window }, [positions, slots, table, rest @ ..]) => {
                let q = q.rank(3, "3 axes [tokens, heads, width]")?;
                let k = k.rank(3, "3 axes [cells, key heads, width]")?;
                let v = v.rank(3, "3 axes [cells, key heads, width]")?;
                page_operands(*positions, *slots, *table, q.role, q.from_end(2), block)?;
                if window == Some(0) {
                    return Err(OpError::Param {
                        name: "window",
                        got: 0.0,
                        rule: "at least 1",
                    });
                }
                (Self::heads(q, k, v)?, rest)
            }
            (visibility, rest) => {
                let q = q.rank(4, "4 axes [batch, tokens, heads, width]")?;
                let k = k.rank(4, "4 axes [batch, keys, key heads, width]")?;
                let v = v.rank(4, "4 axes [batch, keys, key heads, width]")?;
                k.same(3, "batch size", q.role, q.from_end(3))?;
                v.same(3, "batch size", q.role, q.from_end(3))?;
                let out = Self::heads(q, k, v)?;
                match (visibility, rest) {
                    (Visibility::Mask, [mask, rest @ ..]) => {
                        let mask = mask
                            .dtype(DTypeSet::Mask)?
                            .rows()?
                            .rank(4, "4 axes [batch or 1, heads or 1, tokens, keys]")?;
                        mask.same(0, "number of keys", k.role, k.from_end(2))?;
                        mask.same(1, "number of tokens", q.role, q.from_end(2))?;
                        for (i, axis) in [(2, 1), (3, 3)] {
                            if mask.from_end(i) != Dim::Fixed(1) {
                                mask.same(i, "axis size", q.role, q.from_end(axis))?;
                            }
                        }
                        (out, rest)
                    }
                    (_, rest) => (out, rest),
                }
            }
        };
        if let [sinks] = rest {
            sinks.dtype(DTypeSet::F32)?.contiguous()?.vector(
                "number of heads",
                q.role,
                q.from_end(1),
            )?;
        }
        one(DType::F32, out)
    }

    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        let [q, k, ..] = ins else { return 0.0 };
        // Dense keys are all seen; of a cache, at most one slot's share.
        let keys = match self.visibility {
            Visibility::Paged { block, window } => {
                let reach = ins.get(5).map_or(0.0, |t| {
                    number(Some(t.shape.last().bound())) * number(Some(block))
                });
                window.map_or(reach, |w| reach.min(number(Some(w))))
            }
            Visibility::Full | Visibility::Mask => number(k.shape.dim(1).map(Dim::bound)),
        };
        2.0 * keys * (elems(q) + outs.first().map_or(0.0, |o| elems(o)))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        let mut p = vec![
            ("scale", self.scale.to_string()),
            ("visibility", format!("{:?}", self.visibility)),
        ];
        if let Some(cap) = self.softcap {
            p.push(("softcap", cap.to_string()));
        }
        p
    }

    /// Cut by query head, every member with the key heads that its query heads read; sinks and a mask that has heads
    /// alike, everything else whole.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let mut rule = SplitRule::replicated(ins.len(), outs.len());
        let Some((q, k)) = cut_by_heads(ins) else {
            return rule;
        };
        let keys = k.map_or(Sharding::Replicated, Sharding::Split);
        let n_ins = ins.len();
        for (i, (sharding, x)) in rule.inputs.iter_mut().zip(ins).enumerate() {
            *sharding = match i {
                0 => Sharding::Split(q.clone()),
                1 | 2 => keys.clone(),
                _ if self.sinks && i + 1 == n_ins => Sharding::Split(q.on_axis(0)),
                3 if self.visibility == Visibility::Mask
                    && x.desc.shape.dim(1) != Some(Dim::Fixed(1)) =>
                {
                    Sharding::Split(q.on_axis(1))
                }
                _ => Sharding::Replicated,
            };
        }
        rule.outputs.fill(Sharding::Split(q));
        rule
    }
}

/// The cut of the query heads and that of the key heads; all members hold the key head if there is one only.
fn cut_by_heads(ins: &[SplitOperand<'_>]) -> Option<(Split, Option<Split>)> {
    let [q, k, v, ..] = ins else { return None };
    let axis = q.desc.rank().checked_sub(2)?;
    let (n_q, n_k) = (
        q.desc.shape.dim(axis)?.fixed()?,
        k.desc.shape.dim(axis)?.fixed()?,
    );
    let group = n_q.checked_div(n_k)?;
    if let Some(keys) = k.cut_of(axis).or_else(|| v.cut_of(axis)) {
        let own = q.cut_of(axis).filter(|q| heads_meet(q, keys, group));
        let queries = own.cloned().unwrap_or_else(|| keys.times(group));
        return Some((queries, Some(keys.clone())));
    }
    let queries = q.cut_of(axis)?;
    if n_k == 1 {
        return Some((queries.clone(), None));
    }
    let read = |m: usize| {
        let mut heads: Vec<usize> = queries.elements(m).map(|h| h / group.max(1)).collect();
        heads.dedup();
        Split::runs(heads)
    };
    let parts: Vec<Part> = (0..queries.members()).map(read).collect();
    let keys = Split::new(axis, n_k, parts).ok()?;
    heads_meet(queries, &keys, group).then(|| (queries.clone(), Some(keys)))
}

/// Does local query head `i` of every member read its local key head `i / (queries / keys)`?
fn heads_meet(queries: &Split, keys: &Split, group: usize) -> bool {
    (0..queries.members()).all(|m| {
        let (n_q, n_k) = (queries.len(m), keys.len(m));
        let Some(local) = n_q.checked_div(n_k).filter(|n| n * n_k == n_q) else {
            return n_q == 0;
        };
        let held = keys.elements(m).flat_map(|k| std::iter::repeat_n(k, local));
        queries.elements(m).map(|h| h / group.max(1)).eq(held)
    })
}
