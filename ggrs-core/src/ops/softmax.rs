//! Softmax over the last axis.

use crate::ops::operands::{finite, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule, elems};
use crate::{DTypeSet, Dim, OpError, Real, Sharding, TensorDesc};

/// `softmax(scale * x + mask)` over the last axis, with an optional sink per head that joins the sum but has no
/// output.
///
/// The mask's axes, aligned at the last one, must equal those of `x` or be 1. Sinks are F32 `[heads]`, where `heads`
/// is the third axis of `x` from the end. A row whose every entry is masked and that has no sink gives zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Softmax {
    /// Factor before the mask is added.
    pub scale: Real,
    /// Is there a mask operand (F32 or F16)?
    pub mask: bool,
    /// Is there a sinks operand?
    pub sinks: bool,
}

impl OpSpec for Softmax {
    fn stem(&self) -> &'static str {
        "softmax"
    }

    fn roles(&self) -> &'static [&'static str] {
        if self.mask {
            &["x", "mask", "sinks"]
        } else {
            &["x", "sinks"]
        }
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        finite("scale", self.scale.0)?;
        let expected = 1 + usize::from(self.mask) + usize::from(self.sinks);
        let mut all = ins.iter();
        let Some(x) = all.next().filter(|_| ins.len() == expected) else {
            return Err(OpError::Arity {
                expected,
                got: ins.len(),
            });
        };
        let x = x
            .dtype(DTypeSet::Float)?
            .rows()?
            .min_rank(1, "at least 1 axis")?;
        if self.mask
            && let Some(mask) = all.next()
        {
            let mask = mask.dtype(DTypeSet::Mask)?.rows()?;
            mask.same(0, "width", x.role, x.from_end(0))?;
            for i in 1..mask.desc.rank() {
                if mask.from_end(i) != Dim::Fixed(1) {
                    mask.same(i, "axis size", x.role, x.from_end(i))?;
                }
            }
            if mask.desc.rank() > x.desc.rank() {
                return Err(OpError::Broadcast {
                    a: mask.shape().clone(),
                    b: x.shape().clone(),
                });
            }
        }
        if self.sinks
            && let Some(sinks) = all.next()
        {
            sinks.dtype(DTypeSet::F32)?.contiguous()?.vector(
                "number of heads",
                x.role,
                x.from_end(2),
            )?;
        }
        one(x.desc.dtype, x.shape().clone())
    }

    fn flops(&self, _: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        5.0 * outs.first().map_or(0.0, |o| elems(o))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("scale", self.scale.to_string())]
    }

    /// Row by row; the mask alike unless it is repeated, sinks alike if heads are cut.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let (Some(x), Some(out)) = (ins.first(), outs.first()) else {
            return SplitRule::replicated(ins.len(), outs.len());
        };
        let Some(cut) = x.cut_of_rows() else {
            return SplitRule::replicated(ins.len(), outs.len());
        };
        let heads = x.cut_from_end(2).is_some();
        let n_ins = ins.len();
        let inputs = ins.iter().enumerate().map(|(i, operand)| {
            let sinks = self.sinks && i + 1 == n_ins;
            match (sinks, heads) {
                (true, true) => Sharding::Split(cut.on_axis(0)),
                (true, false) => Sharding::Replicated,
                (false, _) => operand.follow(cut, out),
            }
        });
        SplitRule::new(inputs, [Sharding::Split(cut.clone())])
    }
}
