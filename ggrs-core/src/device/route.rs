//! Routes: which kernel runs an op, and why.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::WeightForm;
use crate::ops::Op;
use crate::{Graph, NodeId, TensorDesc, ValueId};

/// How exact a plan computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Precision {
    /// Weights dequantised to F32, F32 activations and accumulation: what correctness is judged by.
    Exact,
    /// Activations may be quantised, matrix units of lower precision used.
    #[default]
    Fast,
}

impl Precision {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }
}

/// An op on the operands that the device will really see.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// The op.
    pub op: &'a Op,
    /// Its operands.
    pub inputs: &'a [&'a TensorDesc],
    /// For each operand, the form it is kept in if it is a weight; `None` for everything else.
    pub forms: &'a [Option<WeightForm>],
    /// Its results.
    pub outputs: &'a [&'a TensorDesc],
    /// The plan's precision.
    pub precision: Precision,
}

impl RouteRequest<'_> {
    /// The form of operand `i` if it is a weight.
    pub fn form(&self, i: usize) -> Option<WeightForm> {
        self.forms.get(i).copied().flatten()
    }
}

/// A kernel chosen for a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Route {
    /// The kernel's name, from which the device finds it again.
    pub kernel: Cow<'static, str>,
    /// Why this one, in words for `explain`.
    pub reason: Cow<'static, str>,
    /// Working memory the kernel needs during the step.
    pub scratch_bytes: u64,
}

impl Route {
    /// The kernel of a step whose work another step does.
    const FUSED: &'static str = "fused";

    /// The route of a step whose work the step `first` does.
    pub fn fused(first: usize) -> Self {
        Self {
            kernel: Cow::Borrowed(Self::FUSED),
            reason: Cow::Owned(format!("part of step {first}")),
            scratch_bytes: 0,
        }
    }

    /// Does another step do the work?
    pub fn is_fused(&self) -> bool {
        self.kernel == Self::FUSED
    }

    /// The route of a step that no device runs: data that moves between devices.
    pub const fn outside(kernel: &'static str, reason: &'static str) -> Self {
        Self {
            kernel: Cow::Borrowed(kernel),
            reason: Cow::Borrowed(reason),
            scratch_bytes: 0,
        }
    }
}

/// The steps of a plan in order, for a device that runs some neighbours as one.
pub struct FusionRequest<'a> {
    /// The plan's graph.
    pub graph: &'a Graph,
    /// The node of each step.
    pub nodes: &'a [NodeId],
    /// The form of each weight, by its leaf.
    pub forms: &'a HashMap<ValueId, WeightForm>,
    /// The plan's precision.
    pub precision: Precision,
}

impl FusionRequest<'_> {
    /// The form of a value's storage if it is a weight.
    pub fn form(&self, value: ValueId) -> Option<WeightForm> {
        self.forms.get(&self.graph.value(value).storage).copied()
    }
}

/// Neighbouring steps that a device runs as one. All that lives at one of them lives through all of them, so that their
/// work may overlap; what only they read need not be written at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// The steps, at least two.
    pub steps: Range<usize>,
    /// What runs instead: the route of the first step. The others' routes say that they are part of it.
    pub route: Route,
}

/// One reader of a weight.
#[derive(Clone, Copy, Debug)]
pub struct WeightUse<'a> {
    /// The op.
    pub op: &'a Op,
    /// Which operand the weight is.
    pub operand: usize,
}
