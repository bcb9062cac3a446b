//! Rotary position embedding.

use crate::ops::operands::{multiple, not_negative, one, positive};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems};
use crate::{DTypeSet, Dim, OpError, Real, Sharding, TensorDesc};

/// Which elements are rotated together, and which position rotates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeMode {
    /// Pairs (2i, 2i+1).
    Normal,
    /// Pairs (i, i + n_rot/2).
    Neox,
    /// NEOX pairs; four position rows; pair i uses the row of the section it falls in, sections one after another.
    Multi([usize; 4]),
    /// NEOX pairs; four position rows; sections interleaved (i % 3), the fourth row for what is left.
    Interleaved([usize; 4]),
}

impl RopeMode {
    /// Rows of position ids: 1, or 4 for the multi-section modes.
    pub const fn position_rows(self) -> usize {
        match self {
            Self::Normal | Self::Neox => 1,
            Self::Multi(_) | Self::Interleaved(_) => 4,
        }
    }

    /// The sections of a multi-section mode.
    pub const fn sections(self) -> Option<[usize; 4]> {
        match self {
            Self::Normal | Self::Neox => None,
            Self::Multi(s) | Self::Interleaved(s) => Some(s),
        }
    }
}

/// YaRN scaling (arXiv 2309.00071), with ggml's parameters. The default leaves angles and lengths as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Yarn {
    /// Context length of training; used only when `ext_factor` is not 0.
    pub n_ctx_orig: usize,
    /// Positions are multiplied by this (1 / scaling factor).
    pub freq_scale: Real,
    /// Blend between interpolation (0) and extrapolation (1).
    pub ext_factor: Real,
    /// Factor on the result.
    pub attn_factor: Real,
    /// Rotations above which frequencies are kept.
    pub beta_fast: Real,
    /// Rotations below which frequencies are interpolated.
    pub beta_slow: Real,
}

impl Default for Yarn {
    fn default() -> Self {
        Self {
            n_ctx_orig: 0,
            freq_scale: Real(1.0),
            ext_factor: Real(0.0),
            attn_factor: Real(1.0),
            beta_fast: Real(32.0),
            beta_slow: Real(1.0),
        }
    }
}

/// Rotates the first `n_rot` elements of the last axis of `x` `[.., T, heads, width]` by `positions` `[T]`
/// (`[4, T]` for multi-section modes); the rest passes through. Factors, if any, are F32 `[n_rot / 2]` and divide
/// the frequencies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rope {
    /// Pairing and positions.
    pub mode: RopeMode,
    /// Elements rotated; even.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub base: Real,
    /// Scaling.
    pub yarn: Yarn,
    /// Is there an operand of frequency factors?
    pub factors: bool,
}

impl OpSpec for Rope {
    fn stem(&self) -> &'static str {
        "rope"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x", "positions", "frequency factors"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let expected = 2 + usize::from(self.factors);
        let mut all = ins.iter();
        let (Some(x), Some(positions)) = (all.next(), all.next()) else {
            return Err(OpError::Arity {
                expected,
                got: ins.len(),
            });
        };
        if ins.len() != expected {
            return Err(OpError::Arity {
                expected,
                got: ins.len(),
            });
        }
        positive("base", self.base.0)?;
        positive("freq_scale", self.yarn.freq_scale.0)?;
        not_negative("ext_factor", self.yarn.ext_factor.0)?;
        positive("attn_factor", self.yarn.attn_factor.0)?;
        let x = x
            .dtype(DTypeSet::Float)?
            .rows()?
            .min_rank(3, "at least 3 axes [.., tokens, heads, width]")?;
        let width = x.fixed_from_end(0, "the width of a head must be fixed")?;
        multiple("n_rot", Dim::Fixed(self.n_rot), "a pair", 2)?;
        if self.n_rot == 0 || self.n_rot > width {
            return Err(OpError::TooLarge {
                what: "n_rot",
                got: self.n_rot,
                max: width,
            });
        }
        if self
            .mode
            .sections()
            .is_some_and(|s| s.iter().all(|n| *n == 0))
        {
            return Err(OpError::Param {
                name: "sections",
                got: 0.0,
                rule: "not all zero",
            });
        }
        let positions = positions.dtype(DTypeSet::I32)?.contiguous()?;
        match self.mode.position_rows() {
            1 => {
                positions.vector("number of tokens", x.role, x.from_end(2))?;
            }
            rows => {
                positions.rank(2, "2 axes [4, tokens]")?.same(
                    0,
                    "number of tokens",
                    x.role,
                    x.from_end(2),
                )?;
                positions.same(1, "rows of positions", "rope sections", Dim::Fixed(rows))?;
            }
        }
        if let Some(f) = all.next() {
            f.dtype(DTypeSet::F32)?.contiguous()?.vector(
                "number of pairs",
                "n_rot / 2",
                Dim::Fixed(self.n_rot / 2),
            )?;
        }
        one(x.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        3.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![
            ("mode", format!("{:?}", self.mode)),
            ("n_rot", self.n_rot.to_string()),
            ("base", self.base.to_string()),
        ]
    }

    /// Cuts of heads and of outer axes pass; of tokens, with the positions cut alike.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [x, positions, ..] = ins else {
            return replicated;
        };
        let Some(cut) = x.cut_of_rows() else {
            return replicated;
        };
        let mut rule = replicated;
        if let [of_x, of_positions, ..] = rule.inputs.as_mut_slice() {
            *of_x = x.sharding.clone();
            if x.cut_from_end(2).is_some() {
                let last = positions.desc.rank().saturating_sub(1);
                *of_positions = Sharding::Split(cut.on_axis(last));
            }
        }
        rule.outputs.fill(x.sharding.clone());
        rule
    }
}
