//! Recurrent mixers: causal depthwise convolution and the gated delta rule.

use crate::ops::operands::{Operand, fresh, multiple, one};
use crate::ops::{OpSpec, Operands, Outputs, elems, number};
use crate::{DType, DTypeSet, Dim, OpError, Shape, TensorDesc};

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
}
