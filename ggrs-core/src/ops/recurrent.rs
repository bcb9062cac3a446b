//! Recurrent mixers: causal depthwise convolution and the gated delta rule.

use crate::ops::operands::{Operand, fresh, multiple, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems, number};
use crate::shard::Part;
use crate::{DType, DTypeSet, Dim, OpError, Shape, Sharding, Split, TensorDesc};

/// Causal depthwise convolution without bias: x `[S, C, K - 1 + T]` (the state's columns first), weights `[C, K]`
/// -> `[S, T, C]`: `out[s, t, c] = sum_j x[s, c, t + j] * w[c, j]`. F32.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SsmConv;

impl OpSpec for SsmConv {
    fn stem(&self) -> &'static str {
        "ssm_conv"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x", "weights"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x, w] = ins.exactly()?;
        let x = x
            .dtype(DTypeSet::F32)?
            .rank(3, "3 axes [sequences, channels, state + tokens]")?
            .rows()?;
        let w = w
            .dtype(DTypeSet::F32)?
            .rank(2, "2 axes [channels, taps]")?
            .contiguous()?;
        w.same(1, "number of channels", x.role, x.from_end(1))?;
        let taps = w.fixed_from_end(0, "the number of taps must be fixed")?;
        let columns = x.fixed_from_end(
            0,
            "bind the graph's tokens before the convolution joins them to the state",
        )?;
        let tokens =
            (columns + 1)
                .checked_sub(taps)
                .filter(|_| taps > 0)
                .ok_or(OpError::TooLarge {
                    what: "number of taps",
                    got: taps,
                    max: columns + 1,
                })?;
        one(
            DType::F32,
            Shape::new([x.from_end(2), Dim::Fixed(tokens), x.from_end(1)]),
        )
    }

    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        let taps = ins
            .get(1)
            .map_or(0.0, |w| number(Some(w.shape.last().bound())));
        2.0 * taps * outs.first().map_or(0.0, |o| elems(o))
    }

    /// Cut by channel, or by sequence with whole weights.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [x, w] = ins else { return replicated };
        let on = |cut: &Split, axis: usize| Sharding::Split(cut.on_axis(axis));
        if let Some(cut) = x.cut_of(1).or_else(|| w.cut_of(0)) {
            SplitRule::new([on(cut, 1), on(cut, 0)], [on(cut, 2)])
        } else if let Some(cut) = x.cut_of(0) {
            SplitRule::new([on(cut, 0), Sharding::Replicated], [on(cut, 0)])
        } else {
            replicated
        }
    }
}

/// The gated delta rule (arXiv 2412.06464) over a state per value head.
///
/// q, k `[B, T, Hk, D]`, v `[B, T, Hv, D]`, g `[B, T, Hv, 1 or D]` (log decay), beta `[B, T, Hv]`, state
/// `[B, Hv, D, D]` (row j belongs to value element j) -> out `[B, T, Hv, D]` and states `[B, snapshots, Hv, D, D]`,
/// newest first; snapshots older than the first token are not written. Value head h reads key head `h % Hk`. Per
/// token: `M *= exp(g)`, `d = (v - M k) * beta`, `M += d k^T`, `out = M q / sqrt(D)`. F32.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatedDeltaNet {
    /// States kept: after the last token, the one before, and so on.
    pub snapshots: usize,
}

impl OpSpec for GatedDeltaNet {
    fn stem(&self) -> &'static str {
        "gated_delta_net"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["q", "k", "v", "g", "beta", "state"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [q, k, v, g, beta, state] = ins.exactly()?;
        let four = "4 axes [batch, tokens, heads, width]";
        let floats = |x: Operand<'_>| x.dtype(DTypeSet::F32).map(|_| ());
        for x in [q, k, v, g, beta, state] {
            floats(x)?;
        }
        let v = v.rank(4, four)?.rows()?;
        for x in [q, k] {
            let x = x.rank(4, four)?.rows()?;
            x.same(0, "head width", v.role, v.from_end(0))?;
            x.same(2, "number of tokens", v.role, v.from_end(2))?;
            x.same(3, "batch size", v.role, v.from_end(3))?;
        }
        q.same(1, "number of key heads", k.role, k.from_end(1))?;
        let n_k = k.fixed_from_end(1, "the number of heads must be fixed")?;
        multiple(
            "number of value heads",
            v.from_end(1),
            "that of key heads",
            n_k,
        )?;
        let g = g.rank(4, four)?.rows()?;
        if g.from_end(0) != Dim::Fixed(1) {
            g.same(
                0,
                "width of the decay (1 or the head width)",
                v.role,
                v.from_end(0),
            )?;
        }
        let beta = beta.rank(3, "3 axes [batch, tokens, heads]")?;
        for i in 0..3 {
            g.same(i + 1, "axis size", v.role, v.from_end(i + 1))?;
            beta.same(i, "axis size", v.role, v.from_end(i + 1))?;
        }
        let state = state
            .rank(4, "4 axes [batch, heads, width, width]")?
            .contiguous()?;
        for (i, dim) in [(0, 0), (1, 0), (2, 1), (3, 3)] {
            state.same(i, "axis size", v.role, v.from_end(dim))?;
        }
        if self.snapshots == 0 {
            return Err(OpError::Param {
                name: "snapshots",
                got: 0.0,
                rule: "at least 1",
            });
        }
        let (b, h, d) = (v.from_end(3), v.from_end(1), v.from_end(0));
        let states = Shape::new([b, Dim::Fixed(self.snapshots), h, d, d]);
        Ok(Outputs::from_iter([
            fresh(DType::F32, v.shape().clone())?,
            fresh(DType::F32, states)?,
        ]))
    }

    fn flops(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        // Decay, M k, the rank-one update and M q: seven operations per element of the state and token.
        let width = ins
            .get(2)
            .map_or(0.0, |v| number(Some(v.shape.last().bound())));
        7.0 * width * ins.get(2).map_or(0.0, |v| elems(v))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("snapshots", self.snapshots.to_string())]
    }

    /// Cut by head: every member's value heads find their own key heads among its key heads, in the same order.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [q, k, v, g, beta, state] = ins else {
            return replicated;
        };
        let n_k = k.desc.shape.dim(2).map_or(0, Dim::bound);
        let n_v = v.desc.shape.dim(2).map_or(0, Dim::bound);
        let keys = k.cut_of(2).or_else(|| q.cut_of(2)).cloned();
        let values = state.cut_of(1).or_else(|| {
            let mut others = [v, g, beta].into_iter();
            others.find_map(|x| x.cut_of(2))
        });
        let values = values.cloned();
        let Some(values) = values.or_else(|| values_of(keys.as_ref()?, n_k, n_v)) else {
            return replicated;
        };
        let fitting = keys.filter(|keys| heads_meet(&values, keys, n_k));
        let Some(keys) = fitting.or_else(|| keys_of(&values, n_k)) else {
            return replicated;
        };
        let keys = Sharding::Split(keys.on_axis(2));
        let of_state = Sharding::Split(values.on_axis(1));
        let values = Sharding::Split(values.on_axis(2));
        SplitRule::new(
            [
                keys.clone(),
                keys,
                values.clone(),
                values.clone(),
                values.clone(),
                of_state,
            ],
            [values.clone(), values],
        )
    }
}

/// Does local value head `i` of every member read its local key head `i % count`?
fn heads_meet(values: &Split, keys: &Split, n_k: usize) -> bool {
    (0..values.members()).all(|m| {
        let (n_values, n_keys) = (values.len(m), keys.len(m));
        let local: Vec<usize> = keys.elements(m).collect();
        let read = values.elements(m).map(|h| h.checked_rem(n_k));
        let held = local.iter().cycle().take(n_values).map(|h| Some(*h));
        n_values == 0 || (n_keys > 0 && n_values.is_multiple_of(n_keys) && read.eq(held))
    })
}

/// The value heads of every member's key heads: each key head again in every round of `n_k` value heads.
fn values_of(keys: &Split, n_k: usize, n_v: usize) -> Option<Split> {
    let rounds = n_v.checked_div(n_k)?;
    let part = |ranges: &Part| -> Part {
        let round = |r: usize| {
            ranges
                .iter()
                .map(move |k| r * n_k + k.start..r * n_k + k.end)
        };
        (0..rounds).flat_map(round).collect()
    };
    let parts: Vec<Part> = keys.parts().iter().map(part).collect();
    Split::new(2, n_v, parts).ok()
}

/// The key heads that every member's value heads read: those of the first, up to the first that comes again.
fn keys_of(values: &Split, n_k: usize) -> Option<Split> {
    let part = |m: usize| -> Option<Part> {
        let mut heads: Vec<usize> = Vec::new();
        for h in values.elements(m) {
            let head = h.checked_rem(n_k)?;
            if heads.contains(&head) {
                break;
            }
            heads.push(head);
        }
        Some(Split::runs(heads))
    };
    let parts: Vec<Part> = (0..values.members()).map(part).collect::<Option<_>>()?;
    let keys = Split::new(2, n_k, parts).ok()?;
    heads_meet(values, &keys, n_k).then_some(keys)
}
