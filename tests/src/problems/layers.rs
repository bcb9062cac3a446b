//! Problems of several ops: layers as models build them, in which every pass finds its pattern.

use ggrs_core::ops::{Gating, GluKind, RouteExperts, UnaryKind};
use ggrs_core::{DType, GraphError};

use super::kinds;
use crate::oracle::{self, Array, BinaryKind, binary, glu_split, matmul, matmul_id, rms_norm};
use crate::problem::{Problem, Scene, Tensor, Tolerance, operand};

const F32: DType = DType::F32;
const EPS: f32 = 1e-6;

/// A layer, in sizes that are odd where they may be.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Two residual sums, each normed and weighted, with a view chain between them and work that is done twice or for
    /// nothing.
    NormChain {
        /// Rows.
        tokens: usize,
    },
    /// Norm, gate and up, activation, down, residual.
    DenseFfn {
        /// Rows.
        tokens: usize,
        /// Of the weights.
        dtype: DType,
    },
    /// Norm, router, experts, weighted sum, residual.
    Experts {
        /// Rows.
        tokens: usize,
        /// Of the experts.
        dtype: DType,
        /// Of the router.
        gating: Gating,
        /// Are the chosen weights made to sum to 1?
        normalise: bool,
    },
}

/// Every layer in a few sizes and formats.
pub fn layers() -> Vec<Layer> {
    let mut layers = Vec::new();
    for tokens in [1, 5, 33] {
        layers.push(Layer::NormChain { tokens });
        for dtype in [F32, DType::F16, DType::Q8_0, DType::Q4_0] {
            layers.push(Layer::DenseFfn { tokens, dtype });
            for gating in [Gating::Softmax, Gating::Sigmoid] {
                layers.push(Layer::Experts {
                    tokens,
                    dtype,
                    gating,
                    normalise: tokens != 5,
                });
            }
        }
    }
    layers
}

fn add(a: &Array, b: &Array) -> Array {
    binary(BinaryKind::Add, a, b)
}

fn mul(a: &Array, b: &Array) -> Array {
    binary(BinaryKind::Mul, a, b)
}

fn normed(x: &Array, weight: &Tensor) -> Array {
    mul(&rms_norm(x, EPS.into()), &weight.floats())
}

/// Bounds of some ops, the products by the dtype of their weights.
fn chain(stems: &[&'static str], dtype: DType) -> Tolerance {
    let part = |&stem| {
        Tolerance::of(
            stem,
            if stem.starts_with("matmul") {
                dtype
            } else {
                F32
            },
        )
    };
    Tolerance::Chain(stems.iter().map(part).collect())
}

impl Problem for Layer {
    fn stem(&self) -> &'static str {
        "rms_norm"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        match *self {
            Self::NormChain { tokens } => norm_chain(scene, tokens),
            Self::DenseFfn { tokens, dtype } => dense_ffn(scene, tokens, dtype),
            Self::Experts {
                tokens,
                dtype,
                gating,
                normalise,
            } => experts(scene, tokens, dtype, gating, normalise),
        }
    }
}

fn norm_chain(scene: &mut Scene, tokens: usize) -> Result<(), GraphError> {
    let width = 66;
    let rows = operand(F32, [tokens, width]);
    let (x, y) = (
        scene.input(&rows).normals(1.0)?,
        scene.input(&rows).normals(1.0)?,
    );
    let first = scene.weight(&operand(F32, [width])).normals(1.0)?;
    let second = scene.weight(&operand(F32, [width])).normals(1.0)?;
    let graph = &mut scene.graph;

    let sum = graph.add(x.value, y.value)?;
    let norm = graph.rms_norm(sum, None, EPS)?;
    let a = graph.mul(norm, first.value)?;
    // Heads apart and back, the way round with a copy that is not needed.
    let heads = graph.reshape(a, [tokens, 2, width / 2])?;
    let turned = graph.permute(heads, &[1, 0, 2])?;
    let back = graph.permute(turned, &[1, 0, 2])?;
    let flat = graph.reshape(back, [tokens, width])?;
    let again = graph.add(x.value, y.value)?;
    let residual = graph.add(flat, again)?;
    let b = graph.rms_norm(residual, Some(second.value), EPS)?;
    let unused = graph.scale(b, 3.0, 0.0)?;
    graph.unary(UnaryKind::Neg, unused)?;

    let sum = || add(&x.floats(), &y.floats());
    let residual_of = move || add(&normed(&sum(), &first), &sum());
    let bound = chain(&["add_rms_norm", "mul", "add_rms_norm", "mul"], F32);
    scene.expect(residual, bound.clone(), &residual_of)?;
    scene.expect(b, bound, || normed(&residual_of(), &second))
}

fn dense_ffn(scene: &mut Scene, tokens: usize, dtype: DType) -> Result<(), GraphError> {
    let (width, hidden) = (64, 96);
    let x = scene.input(&operand(F32, [tokens, width])).normals(1.0)?;
    let norm = scene.weight(&operand(F32, [width])).normals(1.0)?;
    let gate = scene
        .weight(&operand(dtype, [hidden, width]))
        .normals(0.3)?;
    let up = scene
        .weight(&operand(dtype, [hidden, width]))
        .normals(0.3)?;
    let down = scene
        .weight(&operand(dtype, [width, hidden]))
        .normals(0.3)?;
    let graph = &mut scene.graph;

    let h = graph.rms_norm(x.value, None, EPS)?;
    let h = graph.mul(h, norm.value)?;
    let (g, u) = (graph.matmul(gate.value, h)?, graph.matmul(up.value, h)?);
    let h = graph.glu(GluKind::Swiglu, g, u)?;
    let h = graph.matmul(down.value, h)?;
    let y = graph.add(h, x.value)?;

    scene.expect(
        y,
        chain(&["rms_norm", "matmul_glu", "matmul", "add"], dtype),
        || {
            let h = normed(&x.floats(), &norm);
            let h = glu_split(
                oracle::GluKind::Swiglu,
                &matmul(&gate.floats(), &h),
                &matmul(&up.floats(), &h),
            );
            add(&matmul(&down.floats(), &h), &x.floats())
        },
    )
}

fn experts(
    scene: &mut Scene,
    tokens: usize,
    dtype: DType,
    gating: Gating,
    normalise: bool,
) -> Result<(), GraphError> {
    let (width, hidden, n_experts, n_used) = (64, 96, 9, 3);
    let x = scene.input(&operand(F32, [tokens, width])).normals(1.0)?;
    let norm = scene.weight(&operand(F32, [width])).normals(1.0)?;
    let router = scene
        .weight(&operand(F32, [n_experts, width]))
        .normals(0.3)?;
    let gate = scene
        .weight(&operand(dtype, [n_experts, hidden, width]))
        .normals(0.3)?;
    let up = scene
        .weight(&operand(dtype, [n_experts, hidden, width]))
        .normals(0.3)?;
    let down = scene
        .weight(&operand(dtype, [n_experts, width, hidden]))
        .normals(0.3)?;
    let graph = &mut scene.graph;

    let h = graph.rms_norm(x.value, Some(norm.value), EPS)?;
    let logits = graph.matmul(router.value, h)?;
    let probabilities = match gating {
        Gating::Softmax => graph.softmax(logits, 1.0, None, None)?,
        Gating::Sigmoid => graph.unary(UnaryKind::Sigmoid, logits)?,
    };
    let (mut weights, ids) = graph.top_k(probabilities, n_used)?;
    if normalise {
        let sum = graph.sum(weights, 1)?;
        let sum = graph.clamp(sum, RouteExperts::MIN_SUM, f32::INFINITY)?;
        weights = graph.div(weights, sum)?;
    }
    let h = graph.reshape(h, [tokens, 1, width])?;
    let (g, u) = (
        graph.matmul_id(gate.value, h, ids)?,
        graph.matmul_id(up.value, h, ids)?,
    );
    let h = graph.glu(GluKind::Swiglu, g, u)?;
    let h = graph.matmul_id(down.value, h, ids)?;
    let weights_of_rows = graph.reshape(weights, [tokens, n_used, 1])?;
    let h = graph.mul(h, weights_of_rows)?;
    let h = graph.sum(h, 1)?;
    let h = graph.reshape(h, [tokens, width])?;
    let y = graph.add(h, x.value)?;

    let hidden_of = || normed(&x.floats(), &norm);
    let route = || {
        oracle::route_experts(
            &matmul(&router.floats(), &hidden_of()),
            kinds::gating(gating),
            n_used,
            normalise,
            1.0,
        )
    };
    scene.expect_ints(ids, || route().1)?;
    let bound = Tolerance::Chain(vec![
        chain(&["rms_norm", "route_experts", "matmul"], F32),
        chain(&["matmul_id_glu", "matmul_id", "mul", "sum", "add"], dtype),
    ]);
    scene.expect(y, bound, || {
        let (weights, ids) = route();
        let h = oracle::reshape(&hidden_of(), &[tokens, 1, width]);
        let product = |bank: &Tensor, x: &Array| matmul_id(&bank.floats(), x, &ids);
        let h = glu_split(
            oracle::GluKind::Swiglu,
            &product(&gate, &h),
            &product(&up, &h),
        );
        let h = mul(
            &product(&down, &h),
            &oracle::reshape(&weights, &[tokens, n_used, 1]),
        );
        add(
            &oracle::reshape(&oracle::sum(&h, 1), &[tokens, width]),
            &x.floats(),
        )
    })
}
