//! The builder's named methods, one per op: parameters in, values out.

use std::sync::Arc;

use super::{GraphBuilder, Value};
use crate::ops::{
    AddRmsNorm, Argmax, Argsort, Attention, Binary, BinaryKind, Broadcast, CacheWrite, Cast, Clamp,
    Collective, CollectiveKind, Concat, ConstData, Contiguous, CumSum, GatedDeltaNet, GetRows, Glu,
    GluInput, GluKind, L2Norm, LayerNorm, Leaf, LeafKind, MatMul, MatMulGlu, MatMulId, MatMulIdGlu,
    Op, Permute, Reduce, ReduceKind, Reshape, RmsNorm, Rope, RouteExperts, Sample, Scale, SetRows,
    Slice, Softmax, SortOrder, SsmConv, Store, TopK, Unary, UnaryKind,
};
use crate::{DType, GraphError, Real, Shape, TensorDesc};

/// The result of an op with one output.
type One = Result<Value, GraphError>;
/// The results of an op with two outputs.
type Two = Result<(Value, Value), GraphError>;

impl GraphBuilder {
    #[track_caller]
    fn one(&mut self, op: impl Into<Op>, inputs: &[Value]) -> One {
        let outs = self.push(op, inputs)?;
        outs.first().copied().ok_or(GraphError::NoOutputs)
    }

    #[track_caller]
    fn two(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Two {
        let outs = self.push(op, inputs)?;
        match outs.as_slice() {
            [a, b] => Ok((*a, *b)),
            _ => Err(GraphError::NoOutputs),
        }
    }

    #[track_caller]
    fn declare(&mut self, name: &str, kind: LeafKind, dtype: DType, shape: Shape) -> One {
        self.leaf(
            name,
            Op::Leaf(Leaf {
                kind,
                desc: TensorDesc::new(dtype, shape),
                role: Arc::default(),
            }),
        )
    }

    /// A value written before each run.
    #[track_caller]
    pub fn input(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> One {
        self.declare(name, LeafKind::Input, dtype, shape.into())
    }

    /// A value loaded once and never written, known by its name in the model file.
    #[track_caller]
    pub fn weight(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> One {
        self.declare(name, LeafKind::Weight, dtype, shape.into())
    }

    /// A value kept between runs, written in place by ops.
    #[track_caller]
    pub fn state(&mut self, name: &str, dtype: DType, shape: impl Into<Shape>) -> One {
        self.declare(name, LeafKind::State, dtype, shape.into())
    }

    /// A value that is part of the graph: little-endian bytes of a contiguous tensor.
    #[track_caller]
    pub fn constant(
        &mut self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        bytes: impl Into<Arc<[u8]>>,
    ) -> One {
        self.declare(
            name,
            LeafKind::Constant(ConstData(bytes.into())),
            dtype,
            shape.into(),
        )
    }

    /// [`Reshape`].
    #[track_caller]
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> One {
        self.one(
            Reshape {
                shape: shape.into(),
            },
            &[x],
        )
    }

    /// [`Permute`].
    #[track_caller]
    pub fn permute(&mut self, x: Value, axes: &[usize]) -> One {
        self.one(Permute { axes: axes.into() }, &[x])
    }

    /// [`Slice`]: `len` elements of `axis` from `start`.
    #[track_caller]
    pub fn slice(&mut self, x: Value, axis: usize, start: usize, len: usize) -> One {
        self.one(Slice { axis, start, len }, &[x])
    }

    /// [`Broadcast`].
    #[track_caller]
    pub fn broadcast(&mut self, x: Value, shape: impl Into<Shape>) -> One {
        self.one(
            Broadcast {
                shape: shape.into(),
            },
            &[x],
        )
    }

    /// [`Contiguous`].
    #[track_caller]
    pub fn contiguous(&mut self, x: Value) -> One {
        self.one(Contiguous, &[x])
    }

    /// [`Cast`].
    #[track_caller]
    pub fn cast(&mut self, x: Value, dtype: DType) -> One {
        self.one(Cast { dtype }, &[x])
    }

    /// [`Concat`].
    #[track_caller]
    pub fn concat(&mut self, xs: &[Value], axis: usize) -> One {
        self.one(Concat { axis }, xs)
    }

    /// [`GetRows`].
    #[track_caller]
    pub fn get_rows(&mut self, table: Value, ids: Value) -> One {
        self.one(GetRows::default(), &[table, ids])
    }

    /// [`SetRows`]; the result is `dst` after the write.
    #[track_caller]
    pub fn set_rows(&mut self, dst: Value, rows: Value, ids: Value) -> One {
        self.one(SetRows, &[dst, rows, ids])
    }

    /// [`Store`]; the result is `dst` after the write.
    #[track_caller]
    pub fn store(&mut self, dst: Value, src: Value) -> One {
        self.one(Store, &[dst, src])
    }

    /// [`CacheWrite`]; the result is the cache after the write.
    #[track_caller]
    pub fn cache_write(&mut self, cache: Value, rows: Value, pages: Pages, block: usize) -> One {
        self.one(
            CacheWrite { block },
            &[cache, rows, pages.positions, pages.slots, pages.table],
        )
    }

    /// lhs + rhs, with broadcast.
    #[track_caller]
    pub fn add(&mut self, lhs: Value, rhs: Value) -> One {
        self.one(
            Binary {
                kind: BinaryKind::Add,
            },
            &[lhs, rhs],
        )
    }

    /// lhs - rhs, with broadcast.
    #[track_caller]
    pub fn sub(&mut self, lhs: Value, rhs: Value) -> One {
        self.one(
            Binary {
                kind: BinaryKind::Sub,
            },
            &[lhs, rhs],
        )
    }

    /// lhs * rhs, with broadcast.
    #[track_caller]
    pub fn mul(&mut self, lhs: Value, rhs: Value) -> One {
        self.one(
            Binary {
                kind: BinaryKind::Mul,
            },
            &[lhs, rhs],
        )
    }

    /// lhs / rhs, with broadcast.
    #[track_caller]
    pub fn div(&mut self, lhs: Value, rhs: Value) -> One {
        self.one(
            Binary {
                kind: BinaryKind::Div,
            },
            &[lhs, rhs],
        )
    }

    /// scale * x + bias.
    #[track_caller]
    pub fn scale(&mut self, x: Value, scale: f32, bias: f32) -> One {
        self.one(
            Scale {
                scale: Real(scale),
                bias: Real(bias),
            },
            &[x],
        )
    }

    /// [`Clamp`].
    #[track_caller]
    pub fn clamp(&mut self, x: Value, min: f32, max: f32) -> One {
        self.one(
            Clamp {
                min: Real(min),
                max: Real(max),
            },
            &[x],
        )
    }

    /// [`Unary`].
    #[track_caller]
    pub fn unary(&mut self, kind: UnaryKind, x: Value) -> One {
        self.one(Unary { kind }, &[x])
    }

    /// [`Glu`] of two tensors.
    #[track_caller]
    pub fn glu(&mut self, kind: GluKind, gate: Value, up: Value) -> One {
        self.one(
            Glu {
                kind,
                input: GluInput::Split,
            },
            &[gate, up],
        )
    }

    /// [`Glu`] of one tensor that holds both halves.
    #[track_caller]
    pub fn glu_fused(&mut self, kind: GluKind, input: GluInput, x: Value) -> One {
        self.one(Glu { kind, input }, &[x])
    }

    /// [`RmsNorm`] with a weight, or without.
    #[track_caller]
    pub fn rms_norm(&mut self, x: Value, weight: Option<Value>, eps: f32) -> One {
        let op = RmsNorm {
            eps: Real(eps),
            weighted: weight.is_some(),
        };
        match weight {
            Some(w) => self.one(op, &[x, w]),
            None => self.one(op, &[x]),
        }
    }

    /// [`AddRmsNorm`]: the sum and its norm.
    #[track_caller]
    pub fn add_rms_norm(&mut self, a: Value, b: Value, weight: Value, eps: f32) -> Two {
        self.two(AddRmsNorm { eps: Real(eps) }, &[a, b, weight])
    }

    /// [`LayerNorm`].
    #[track_caller]
    pub fn layer_norm(&mut self, x: Value, eps: f32) -> One {
        self.one(LayerNorm { eps: Real(eps) }, &[x])
    }

    /// [`L2Norm`].
    #[track_caller]
    pub fn l2_norm(&mut self, x: Value, eps: f32) -> One {
        self.one(L2Norm { eps: Real(eps) }, &[x])
    }

    /// [`Softmax`] with an optional mask and sinks.
    #[track_caller]
    pub fn softmax(
        &mut self,
        x: Value,
        scale: f32,
        mask: Option<Value>,
        sinks: Option<Value>,
    ) -> One {
        let op = Softmax {
            scale: Real(scale),
            mask: mask.is_some(),
            sinks: sinks.is_some(),
        };
        let inputs: Vec<Value> = [Some(x), mask, sinks].into_iter().flatten().collect();
        self.one(op, &inputs)
    }

    /// [`Rope`]; give frequency factors exactly if `rope.factors` is set.
    #[track_caller]
    pub fn rope(&mut self, rope: Rope, x: Value, positions: Value, factors: Option<Value>) -> One {
        let inputs: Vec<Value> = [Some(x), Some(positions), factors]
            .into_iter()
            .flatten()
            .collect();
        self.one(rope, &inputs)
    }

    /// [`MatMul`].
    #[track_caller]
    pub fn matmul(&mut self, weights: Value, x: Value) -> One {
        self.one(MatMul, &[weights, x])
    }

    /// [`MatMulGlu`].
    #[track_caller]
    pub fn matmul_glu(&mut self, kind: GluKind, gate: Value, up: Value, x: Value) -> One {
        self.one(MatMulGlu { kind }, &[gate, up, x])
    }

    /// [`MatMulId`].
    #[track_caller]
    pub fn matmul_id(&mut self, weights: Value, x: Value, ids: Value) -> One {
        self.one(MatMulId::default(), &[weights, x, ids])
    }

    /// [`MatMulIdGlu`].
    #[track_caller]
    pub fn matmul_id_glu(
        &mut self,
        kind: GluKind,
        gate: Value,
        up: Value,
        x: Value,
        ids: Value,
    ) -> One {
        self.one(MatMulIdGlu { kind, window: None }, &[gate, up, x, ids])
    }

    /// [`RouteExperts`]: weights and ids.
    #[track_caller]
    pub fn route_experts(&mut self, router: RouteExperts, logits: Value) -> Two {
        self.two(router, &[logits])
    }

    /// [`TopK`]: values and positions.
    #[track_caller]
    pub fn top_k(&mut self, x: Value, k: usize) -> Two {
        self.two(TopK { k }, &[x])
    }

    /// [`Argsort`].
    #[track_caller]
    pub fn argsort(&mut self, x: Value, order: SortOrder) -> One {
        self.one(Argsort { order }, &[x])
    }

    /// [`Argmax`].
    #[track_caller]
    pub fn argmax(&mut self, x: Value) -> One {
        self.one(Argmax, &[x])
    }

    /// [`Sample`]: the cursor after the choice.
    #[track_caller]
    pub fn sample(&mut self, cursor: Value, logits: Value, settings: Value, seeds: Value) -> One {
        self.one(Sample, &[cursor, logits, settings, seeds])
    }

    /// Sum along `axis`, which stays with size 1.
    #[track_caller]
    pub fn sum(&mut self, x: Value, axis: usize) -> One {
        self.one(
            Reduce {
                kind: ReduceKind::Sum,
                axis,
            },
            &[x],
        )
    }

    /// Mean along `axis`, which stays with size 1.
    #[track_caller]
    pub fn mean(&mut self, x: Value, axis: usize) -> One {
        self.one(
            Reduce {
                kind: ReduceKind::Mean,
                axis,
            },
            &[x],
        )
    }

    /// [`CumSum`].
    #[track_caller]
    pub fn cumsum(&mut self, x: Value) -> One {
        self.one(CumSum, &[x])
    }

    /// [`Attention`]: `more` holds the operands that its visibility and sinks ask for, in their order.
    #[track_caller]
    pub fn attention(
        &mut self,
        op: Attention,
        q: Value,
        k: Value,
        v: Value,
        more: &[Value],
    ) -> One {
        let inputs: Vec<Value> = [q, k, v].iter().chain(more).copied().collect();
        self.one(op, &inputs)
    }

    /// [`SsmConv`].
    #[track_caller]
    pub fn ssm_conv(&mut self, x: Value, weights: Value) -> One {
        self.one(SsmConv, &[x, weights])
    }

    /// [`GatedDeltaNet`] of `[q, k, v, g, beta, state]`: the output and the states.
    #[track_caller]
    pub fn gated_delta_net(&mut self, snapshots: usize, inputs: [Value; 6]) -> Two {
        self.two(GatedDeltaNet { snapshots }, &inputs)
    }

    /// [`Collective`] over `members` devices.
    #[track_caller]
    pub fn collective(&mut self, kind: CollectiveKind, members: usize, x: Value) -> One {
        self.one(Collective::even(kind, members), &[x])
    }
}

/// Where tokens lie in a paged cache: positions `[T]`, slots `[T]`, page table `[slots, blocks]`, all I32.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    /// Position of each token in its slot.
    pub positions: Value,
    /// Slot of each token; below 0 for padding.
    pub slots: Value,
    /// Block of the cache for each slot and block of positions.
    pub table: Value,
}
