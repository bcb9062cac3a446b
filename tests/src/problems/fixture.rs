//! Problems from the op cases that were computed elsewhere: ggml's ops as graphs of ours.

use std::fmt;

use ggrs_core::ops::{
    Argmax, Argsort, Attention, Binary, Cast, Clamp, Concat, Contiguous, CumSum, GatedDeltaNet,
    GetRows, Glu, GluInput, GluKind, L2Norm, LayerNorm, MatMul, MatMulId, OpSpec, Reduce,
    ReduceKind, RmsNorm, Rope, RopeMode, Scale, SetRows, SortOrder, SsmConv, TopK, Unary,
    UnaryKind, Visibility, Yarn,
};
use ggrs_core::{DType, DTypeSet, GraphError, Real, Value};

use super::kinds;
use crate::fixtures::{CaseOp, CaseRope, OpCase, RawTensor};
use crate::oracle::{self, Array, Dense, IntArray};
use crate::problem::{Problem, Scene, Tensor, Tolerance, operand};

/// An op case as a problem. The case must be covered.
pub struct FixtureProblem<'a>(pub &'a OpCase);

impl fmt::Debug for FixtureProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

fn binary(kind: oracle::BinaryKind) -> Binary {
    Binary {
        kind: kinds::ours(kinds::BINARY, kinds::binary, kind),
    }
}

fn unary(kind: oracle::UnaryKind) -> Unary {
    Unary {
        kind: kinds::ours(UnaryKind::ALL, kinds::unary, kind),
    }
}

fn glu(kind: oracle::GluKind, input: GluInput) -> Glu {
    Glu {
        kind: kinds::ours(GluKind::ALL, kinds::glu, kind),
        input,
    }
}

impl Problem for FixtureProblem<'_> {
    fn stem(&self) -> &'static str {
        match self.0.op {
            CaseOp::Binary(kind) => binary(kind).stem(),
            CaseOp::Unary(kind) => unary(kind).stem(),
            CaseOp::Glu { kind, .. } => glu(kind, GluInput::Split).stem(),
            CaseOp::Scale { .. } => "scale",
            CaseOp::Clamp { .. } => "clamp",
            CaseOp::Copy => match self.copy_dtype() {
                Some(_) => "cast",
                None => "contiguous",
            },
            CaseOp::Repeat => "contiguous",
            CaseOp::Concat { .. } => "concat",
            CaseOp::GetRows => "get_rows",
            CaseOp::SetRows => "set_rows",
            CaseOp::RmsNorm { .. } => "rms_norm",
            CaseOp::LayerNorm { .. } => "layer_norm",
            CaseOp::L2Norm { .. } => "l2_norm",
            CaseOp::Softmax { .. } => "softmax",
            CaseOp::Rope(_) => "rope",
            CaseOp::MatMul => "matmul",
            CaseOp::MatMulId => "matmul_id",
            CaseOp::Attention { .. } => "attention",
            CaseOp::SsmConv => "ssm_conv",
            CaseOp::GatedDeltaNet { .. } => "gated_delta_net",
            CaseOp::Argmax => "argmax",
            CaseOp::Argsort { .. } => "argsort",
            CaseOp::TopK { .. } => "top_k",
            CaseOp::Sum | CaseOp::SumRows => "sum",
            CaseOp::Mean => "mean",
            CaseOp::Cumsum => "cumsum",
            CaseOp::AddId | CaseOp::DiagMaskInf | CaseOp::Tri | CaseOp::SolveTri => "not covered",
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let case = self.0;
        match case.op {
            CaseOp::Binary(kind) => self.plain(scene, binary(kind), 2),
            CaseOp::Unary(kind) => self.plain(scene, unary(kind), 1),
            CaseOp::Glu { kind, swapped } => match (case.src(1), swapped) {
                (Some(_), _) => self.plain(scene, glu(kind, GluInput::Split), 2),
                (None, false) => self.plain(scene, glu(kind, GluInput::GateUp), 1),
                (None, true) => self.plain(scene, glu(kind, GluInput::UpGate), 1),
            },
            CaseOp::Scale { scale, bias } => self.plain(
                scene,
                Scale {
                    scale: Real(scale),
                    bias: Real(bias),
                },
                1,
            ),
            CaseOp::Clamp { min, max } => self.plain(
                scene,
                Clamp {
                    min: Real(min),
                    max: Real(max),
                },
                1,
            ),
            CaseOp::Copy => {
                let x = self.src(scene, 0)?;
                let x = scene.graph.reshape(x.value, case.dst.shape.as_slice())?;
                let y = match self.copy_dtype() {
                    Some(dtype) => scene.graph.push(Cast { dtype }, &[x])?[0],
                    None => scene.graph.contiguous(x)?,
                };
                self.expect(scene, y)
            }
            CaseOp::Repeat => self.repeat(scene),
            CaseOp::Concat { axis } => self.plain(scene, Concat { axis }, 2),
            CaseOp::GetRows => {
                let table = self.src(scene, 0)?;
                let ids = self.row_ids(scene, &self.raw(0).shape)?;
                let y = scene.apply(GetRows::default(), &[&table, &ids])?;
                self.expect(scene, y)
            }
            CaseOp::SetRows => {
                let target = self.raw(2);
                let dst = scene
                    .state(&operand(dtype(target), target.shape.as_slice()))
                    .bytes(target.bytes.clone())?;
                let rows = self.src(scene, 0)?;
                let ids = self.row_ids(scene, &self.raw(0).shape)?;
                let y = scene.apply(SetRows, &[&dst, &rows, &ids])?;
                self.expect(scene, y)
            }
            CaseOp::RmsNorm { eps } => self.plain(
                scene,
                RmsNorm {
                    eps: Real(eps),
                    weighted: false,
                },
                1,
            ),
            CaseOp::LayerNorm { eps } => self.plain(scene, LayerNorm { eps: Real(eps) }, 1),
            CaseOp::L2Norm { eps } => self.plain(scene, L2Norm { eps: Real(eps) }, 1),
            CaseOp::Softmax { scale, .. } => {
                let x = self.src(scene, 0)?;
                let mask = self.optional(scene, 1)?;
                let sinks = self.vector(scene, 2)?;
                let y = scene.graph.softmax(x.value, scale, mask, sinks)?;
                self.expect(scene, y)
            }
            CaseOp::Rope(rope) => self.rope(scene, &rope),
            CaseOp::MatMul => {
                let weights = self.weight(scene, self.raw(0).shape.as_slice())?;
                let x = self.src(scene, 1)?;
                let y = scene.apply(MatMul, &[&weights, &x])?;
                self.expect_by(scene, y, Tolerance::of("matmul", weights.dtype()))
            }
            CaseOp::MatMulId => {
                let weights = self.weight(scene, &self.raw(0).shape[1..])?;
                let x = self.shaped(scene, 1, &self.raw(1).shape[1..])?;
                let ids = self.shaped(scene, 2, &self.raw(2).shape[2..])?;
                let y = scene.apply(MatMulId::default(), &[&weights, &x, &ids])?;
                self.expect_by(scene, y, Tolerance::of("matmul_id", weights.dtype()))
            }
            CaseOp::Attention { scale, softcap, .. } => self.attention(scene, scale, softcap),
            CaseOp::SsmConv => {
                let x = self.shaped(scene, 0, &self.raw(0).shape[1..])?;
                let weights = self.shaped(scene, 1, &self.raw(1).shape[2..])?;
                let y = scene.apply(SsmConv, &[&x, &weights])?;
                self.expect(scene, y)
            }
            CaseOp::GatedDeltaNet { n_snapshots } => self.delta_net(scene, n_snapshots),
            CaseOp::Argmax => self.plain(scene, Argmax, 1),
            CaseOp::Argsort { descending } => {
                let order = if descending {
                    SortOrder::Descending
                } else {
                    SortOrder::Ascending
                };
                self.plain(scene, Argsort { order }, 1)
            }
            CaseOp::TopK { k } => {
                let x = self.src(scene, 0)?;
                let results = scene.push(TopK { k }, &[&x])?;
                scene.expect_ints(results[1], || largest_first(&x.floats(), &case.dst.ints()))
            }
            CaseOp::Sum => {
                let mut total = self.src(scene, 0)?.value;
                for axis in 0..4 {
                    total = scene.graph.sum(total, axis)?;
                }
                self.expect(scene, total)
            }
            CaseOp::SumRows => self.plain(
                scene,
                Reduce {
                    kind: ReduceKind::Sum,
                    axis: 3,
                },
                1,
            ),
            CaseOp::Mean => self.plain(
                scene,
                Reduce {
                    kind: ReduceKind::Mean,
                    axis: 3,
                },
                1,
            ),
            CaseOp::Cumsum => self.plain(scene, CumSum, 1),
            CaseOp::AddId | CaseOp::DiagMaskInf | CaseOp::Tri | CaseOp::SolveTri => Ok(()),
        }
    }
}

impl FixtureProblem<'_> {
    fn raw(&self, i: usize) -> &RawTensor {
        let Some(src) = self.0.src(i) else {
            unreachable!("{} has no source {i}", self.0.name());
        };
        src
    }

    /// The dtype that a copy converts to, if it converts.
    fn copy_dtype(&self) -> Option<DType> {
        let to = self.0.src(1).and_then(|target| target.dtype)?;
        (to != dtype(self.raw(0))).then_some(to)
    }

    fn src(&self, scene: &mut Scene, i: usize) -> Result<Tensor, GraphError> {
        self.shaped(scene, i, &self.raw(i).shape)
    }

    fn shaped(&self, scene: &mut Scene, i: usize, shape: &[usize]) -> Result<Tensor, GraphError> {
        let raw = self.raw(i);
        scene
            .input(&operand(dtype(raw), shape))
            .bytes(raw.bytes.clone())
    }

    /// Source 0 as a weight.
    fn weight(&self, scene: &mut Scene, shape: &[usize]) -> Result<Tensor, GraphError> {
        let raw = self.raw(0);
        scene
            .weight(&operand(dtype(raw), shape))
            .bytes(raw.bytes.clone())
    }

    fn optional(&self, scene: &mut Scene, i: usize) -> Result<Option<Value>, GraphError> {
        let there = self.0.src(i).is_some();
        there.then(|| Ok(self.src(scene, i)?.value)).transpose()
    }

    /// A source with one axis that is not 1.
    fn vector(&self, scene: &mut Scene, i: usize) -> Result<Option<Value>, GraphError> {
        let there = self.0.src(i).map(|src| src.shape.iter().product::<usize>());
        there
            .map(|n| Ok(self.shaped(scene, i, &[n])?.value))
            .transpose()
    }

    /// The first `n` sources through one op.
    fn plain(
        &self,
        scene: &mut Scene,
        op: impl Into<ggrs_core::ops::Op>,
        n: usize,
    ) -> Result<(), GraphError> {
        let mut srcs = Vec::new();
        for i in 0..n {
            srcs.push(self.src(scene, i)?);
        }
        let y = scene.apply(op, &srcs.iter().collect::<Vec<_>>())?;
        self.expect(scene, y)
    }

    /// The case's answer, judged by the op's row for the result's dtype.
    fn expect(&self, scene: &mut Scene, y: Value) -> Result<(), GraphError> {
        let result = scene.graph.desc(y).map_or(DType::F32, |desc| desc.dtype);
        self.expect_by(scene, y, Tolerance::of(self.stem(), result))
    }

    fn expect_by(
        &self,
        scene: &mut Scene,
        y: Value,
        tolerance: Tolerance,
    ) -> Result<(), GraphError> {
        if self.0.dst.dtype.is_some_and(DType::is_int) {
            scene.expect_ints(y, || self.0.dst.ints())
        } else {
            scene.expect(y, tolerance, || self.0.dst.floats())
        }
    }

    /// Whole copies side by side: one axis after the other, through a new axis that is repeated.
    fn repeat(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let mut now = self.raw(0).shape.clone();
        let mut y = self.src(scene, 0)?.value;
        for (axis, &wanted) in self.0.dst.shape.iter().enumerate() {
            let copies = wanted.checked_div(now[axis]).unwrap_or(1);
            let mut split = now.clone();
            split.insert(axis, 1);
            y = scene.graph.reshape(y, split.as_slice())?;
            split[axis] = copies;
            y = scene.graph.broadcast(y, split.as_slice())?;
            y = scene.graph.push(Contiguous, &[y])?[0];
            now[axis] = wanted;
            y = scene.graph.reshape(y, now.as_slice())?;
        }
        self.expect(scene, y)
    }

    /// ggml's ids `[1, b2, b1, r]`, whose batches repeat over those of `batched` `[B2, B1, ..]`, as `[B2, B1, r]`.
    fn row_ids(&self, scene: &mut Scene, batched: &[usize]) -> Result<Tensor, GraphError> {
        let ids = self.raw(1).ints();
        let shape = [batched[0], batched[1], ids.row_len()];
        let repeated = Dense::from_fn(&shape, |i| {
            ids.at(&[0, i[0] % ids.shape[1], i[1] % ids.shape[2], i[2]])
        });
        scene
            .input(&operand(dtype(self.raw(1)), shape))
            .ids(&repeated)
    }

    /// Rotates the columns from `first_elem` on.
    fn rope(&self, scene: &mut Scene, case: &CaseRope) -> Result<(), GraphError> {
        let width = self.raw(0).shape[3];
        let n_tokens = self.raw(0).shape[1];
        let x = self.src(scene, 0)?;
        let positions = self.raw(1).ints();
        let shape = match positions.data.len() / n_tokens {
            1 => vec![n_tokens],
            rows => vec![rows, n_tokens],
        };
        let positions_in = self.shaped(scene, 1, &shape)?;
        let factors = self.vector(scene, 2)?;
        let params = &case.params;
        let (half, real) = (params.n_rot / 2, |x: f64| Real(x as f32));
        let factors = factors
            .map(|factors| scene.graph.slice(factors, 0, 0, half))
            .transpose()?;
        let op = Rope {
            mode: match params.mode {
                oracle::RopeMode::Normal => RopeMode::Normal,
                oracle::RopeMode::Neox => RopeMode::Neox,
                oracle::RopeMode::Multi(sections) => RopeMode::Multi(sections),
                oracle::RopeMode::Interleaved(sections) => RopeMode::Interleaved(sections),
            },
            n_rot: params.n_rot,
            base: real(params.freq_base),
            yarn: Yarn {
                n_ctx_orig: params.n_ctx_orig,
                freq_scale: real(params.freq_scale),
                ext_factor: real(params.ext_factor),
                attn_factor: real(params.attn_factor),
                beta_fast: real(params.beta_fast),
                beta_slow: real(params.beta_slow),
            },
            factors: factors.is_some(),
        };
        let first = case.first_elem;
        let turned = scene.graph.slice(x.value, 3, first, width - first)?;
        let turned = scene.graph.rope(op, turned, positions_in.value, factors)?;
        let kept = scene.graph.slice(x.value, 3, 0, first)?;
        let y = scene.graph.concat(&[kept, turned], 3)?;
        let max_position = positions
            .data
            .iter()
            .max()
            .map_or(0, |p| p.unsigned_abs() as usize);
        self.expect_by(
            scene,
            y,
            Tolerance::Rope {
                max_position,
                dtype: x.dtype(),
            },
        )
    }

    /// Heads are outside tokens in ggml. A KV format that our attention does not read is cast.
    fn attention(&self, scene: &mut Scene, scale: f32, softcap: f32) -> Result<(), GraphError> {
        let mut token_major = Vec::new();
        for i in 0..3 {
            let mut heads_first = self.src(scene, i)?.value;
            if !DTypeSet::Kv.contains(dtype(self.raw(i))) {
                heads_first = scene.graph.cast(heads_first, DType::F32)?;
            }
            token_major.push(scene.graph.permute(heads_first, &[0, 2, 1, 3])?);
        }
        let mask = self.optional(scene, 3)?;
        let sinks = self.vector(scene, 4)?;
        let op = Attention {
            scale: Real(scale),
            softcap: (softcap != 0.0).then_some(Real(softcap)),
            visibility: if mask.is_some() {
                Visibility::Mask
            } else {
                Visibility::Full
            },
            sinks: sinks.is_some(),
        };
        let more: Vec<Value> = mask.into_iter().chain(sinks).collect();
        let [q, k, v] = [token_major[0], token_major[1], token_major[2]];
        let y = scene.graph.attention(op, q, k, v, &more)?;
        let read = |value| {
            scene
                .graph
                .desc(value)
                .map_or(DType::F32, |desc| desc.dtype)
        };
        let dtypes = vec![read(k), read(v)];
        self.expect_by(
            scene,
            y,
            Tolerance::Op {
                stem: "attention",
                dtypes,
            },
        )
    }

    /// ggml packs answer and memories in one array, memories by age first.
    fn delta_net(&self, scene: &mut Scene, n_snapshots: usize) -> Result<(), GraphError> {
        let mut srcs = Vec::new();
        for i in 0..6 {
            let shape = &self.raw(i).shape;
            srcs.push(self.shaped(scene, i, if i == 4 { &shape[..3] } else { shape })?);
        }
        let results = scene.push(
            GatedDeltaNet {
                snapshots: n_snapshots,
            },
            &srcs.iter().collect::<Vec<_>>(),
        )?;
        let (packed, out, state) = (
            self.0.dst.floats(),
            self.raw(2).shape.clone(),
            self.raw(5).shape.clone(),
        );
        let n_out = out.iter().product();
        let tolerance = Tolerance::of("gated_delta_net", DType::F32);
        scene.expect(results[0], tolerance.clone(), || {
            Array::new(&out, packed.data[..n_out].to_vec())
        })?;
        scene.expect(results[1], tolerance, || {
            let by_age = [&[n_snapshots], state.as_slice()].concat();
            oracle::permute(
                &Array::new(&by_age, packed.data[n_out..].to_vec()),
                &[1, 0, 2, 3, 4],
            )
        })
    }
}

/// The dtype of a covered case's tensor.
fn dtype(raw: &RawTensor) -> DType {
    let Some(dtype) = raw.dtype else {
        unreachable!("{} is not covered", raw.type_name);
    };
    dtype
}

/// The fixture says which positions are the largest; our order is by value, then by position.
fn largest_first(x: &Array, ids: &IntArray) -> IntArray {
    let k = ids.row_len();
    let mut sorted = ids.clone();
    for (row, ids) in sorted.data.chunks_mut(k).enumerate() {
        let value = |id: i64| x.data[row * x.row_len() + id as usize];
        ids.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(a.cmp(&b)));
    }
    sorted
}
