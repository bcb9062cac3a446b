//! The closed set of ops: one struct per op, one file per family with inference, cost and aliasing side by side.
//!
//! Ops know no device. `Op::spec` is the only match over all of them.

mod attention;
mod cache;
mod collective;
mod elementwise;
mod glu;
mod handover;
mod leaf;
mod matmul;
mod moe;
mod movement;
mod norm;
mod operands;
mod recurrent;
mod reduce;
mod rope;
mod rope_pairs;
mod sample;
mod select;
mod softmax;
mod split;
mod view;

use smallvec::SmallVec;

pub use attention::{Attention, Visibility};
pub use cache::{CacheWrite, SetRows, Store};
pub use collective::{Collective, CollectiveKind, Share};
pub use elementwise::{Binary, BinaryKind, Clamp, Scale, Unary, UnaryKind};
pub use glu::{Glu, GluInput, GluKind};
pub use handover::{Receive, Send};
pub use leaf::{ConstData, Leaf, LeafKind};
pub use matmul::{MatMul, MatMulGlu};
pub use moe::{Gating, MatMulId, MatMulIdGlu, RouteExperts, Window};
pub use movement::{Cast, Concat, Contiguous, GetRows};
pub use norm::{AddRmsNorm, L2Norm, LayerNorm, RmsNorm};
pub use operands::{Operand, Operands};
pub use recurrent::{GatedDeltaNet, SsmConv};
pub use reduce::{CumSum, Reduce, ReduceKind};
pub use rope::{Rope, RopeMode, Yarn};
pub use rope_pairs::RopePair;
pub use sample::Sample;
pub use select::{Argmax, Argsort, SortOrder, TopK};
pub use softmax::Softmax;
pub use split::{SplitOperand, SplitRule};
pub use view::{Broadcast, Permute, Reshape, Slice};

use crate::{OpError, Shape, TensorDesc};

/// Descriptions of an op's outputs.
pub type Outputs = SmallVec<[TensorDesc; 2]>;

/// Work an op does: what a bench divides by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: f64,
    /// Bytes that must be read and written once.
    pub bytes: f64,
}

/// How an op's first output relates to its operands' storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Fresh storage.
    Fresh,
    /// The same storage, read through another layout; nothing runs.
    View,
    /// The first operand's storage, written in place.
    InPlace,
}

/// What every op says of itself.
pub trait OpSpec {
    /// The op's name: also that of its kernel and of its test problem.
    fn stem(&self) -> &'static str;

    /// The operands' names, in order.
    fn roles(&self) -> &'static [&'static str];

    /// Checks the operands and describes the outputs.
    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError>;

    /// Floating-point operations for these operands (symbols at their largest).
    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        let _ = ins;
        outs.first().map_or(0.0, |o| elems(o))
    }

    /// Bytes read and written for these operands; all of them, unless an op touches only a part.
    fn bytes(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        ins.iter().chain(outs).map(|d| bytes(d)).sum()
    }

    /// Where the output lives.
    fn alias(&self) -> Alias {
        Alias::Fresh
    }

    /// How the op runs on the members of a device made of several. Unless a family knows better, on whole values.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        SplitRule::replicated(ins.len(), outs.len())
    }

    /// The op that one member runs under `rule`, if its parameters differ from the whole op's: `ins` are the whole
    /// operands, `outs` the shapes of the member's own results.
    fn on_member(
        &self,
        member: usize,
        rule: &SplitRule,
        ins: &[&TensorDesc],
        outs: &[Shape],
    ) -> Option<Op> {
        let _ = (member, rule, ins, outs);
        None
    }

    /// Parameters for dumps: name and value.
    fn params(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// A count as a number for cost formulas.
#[allow(clippy::cast_precision_loss, reason = "a cost estimate")]
pub(crate) fn number(n: Option<usize>) -> f64 {
    n.unwrap_or(usize::MAX) as f64
}

/// Elements of a tensor as a number for cost formulas.
pub(crate) fn elems(desc: &TensorDesc) -> f64 {
    number(desc.shape.elems())
}

/// Bytes of a tensor as a number for cost formulas.
pub(crate) fn bytes(desc: &TensorDesc) -> f64 {
    number(desc.bytes())
}

impl Op {
    /// Does it move data between devices? Such nodes run in their place in every member's order, whatever reads them.
    pub fn is_exchange(&self) -> bool {
        match self {
            Self::Send(_) | Self::Receive(_) => true,
            Self::Collective(c) => c.members > 1,
            _ => false,
        }
    }
}

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// An operation. Closed: a device that forgets one does not compile.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[$doc])* $name($name),)*
        }

        impl Op {
            /// What the op says of itself.
            pub fn spec(&self) -> &dyn OpSpec {
                match self {
                    $(Self::$name(op) => op,)*
                }
            }
        }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Self {
                Self::$name(op)
            }
        })*
    };
}

ops! {
    /// A value that comes from outside: input, weight, state, constant.
    Leaf,
    /// The same elements under another shape.
    Reshape,
    /// The same elements with axes in another order.
    Permute,
    /// A part of one axis.
    Slice,
    /// Elements repeated along axes of size 1.
    Broadcast,
    /// A gapless copy.
    Contiguous,
    /// A copy in another dtype.
    Cast,
    /// Tensors joined along an axis.
    Concat,
    /// Rows picked by id.
    GetRows,
    /// Rows written by id, in place.
    SetRows,
    /// A tensor written over another, in place.
    Store,
    /// Keys or values written to a paged cache, in place.
    CacheWrite,
    /// add, sub, mul, div with broadcast.
    Binary,
    /// a*x + b.
    Scale,
    /// Values limited to a range.
    Clamp,
    /// A function of each element.
    Unary,
    /// Gated linear unit.
    Glu,
    /// Root-mean-square norm, weighted or not.
    RmsNorm,
    /// Sum and its root-mean-square norm: a fusion.
    AddRmsNorm,
    /// Mean and variance norm.
    LayerNorm,
    /// Euclidean norm.
    L2Norm,
    /// Softmax with scale, mask, sinks.
    Softmax,
    /// Rotary position embedding.
    Rope,
    /// Matrix product.
    MatMul,
    /// Two matrix products joined by a gate: a fusion.
    MatMulGlu,
    /// Matrix products with experts chosen per token.
    MatMulId,
    /// Two of them joined by a gate: a fusion.
    MatMulIdGlu,
    /// Router: probabilities, top-k, weights: a fusion.
    RouteExperts,
    /// The k largest.
    TopK,
    /// The order that sorts.
    Argsort,
    /// The position of the largest.
    Argmax,
    /// The next token of each sequence, with its cursor moved on, in place.
    Sample,
    /// Sum or mean along an axis.
    Reduce,
    /// Running sum along the last axis.
    CumSum,
    /// Scaled dot-product attention.
    Attention,
    /// Causal depthwise convolution.
    SsmConv,
    /// Gated delta rule.
    GatedDeltaNet,
    /// Communication between the members of a meta device.
    Collective,
    /// A value that another device takes over.
    Send,
    /// A value that comes from another device.
    Receive,
}
