//! Problems of matrix products, plain and as a gated pair.

use ggrs_core::ops::{GluKind, MatMul, MatMulGlu};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::strategies::{FLOATS, WEIGHTS, one_of};
use super::{Family, kinds};
use crate::oracle::{self, Array};
use crate::problem::{Operand, Problem, Role, Scene, Tensor, Tolerance, View, operand};

const F32: DType = DType::F32;

/// The widest row that is worth its time, and its parts: `k` for a format that is 1, 2 or 3 blocks long.
pub(super) fn inner_size(dtype: DType, n: usize) -> usize {
    dtype.block_elems().max(32) * n
}

/// Activations of a product with `n_outputs` results.
///
/// Where there are too few results for the mean square of rounding errors to mean anything, activations are such that
/// rounding to 8 bits loses nothing: whole numbers up to 127, one of which is 127 in each 32 (over 64, to keep them
/// small).
pub(super) fn activations(
    scene: &mut Scene,
    x: &Operand,
    n_outputs: usize,
) -> Result<Tensor, GraphError> {
    const ENOUGH: usize = 1000;
    if n_outputs >= ENOUGH {
        return scene.input(x).normals(1.0);
    }
    let whole = scene.random.ids(&x.shape, 255);
    let values = Array::from_fn(&x.shape, |i| {
        let is_largest = i.last().is_some_and(|k| k % 32 == 0);
        (if is_largest {
            127.0
        } else {
            whole.at(i) as f64 - 127.0
        }) / 64.0
    });
    scene.input(x).values(&values)
}

#[derive(Clone, Debug)]
struct Product {
    role: Role,
    weights: Operand,
    x: Operand,
}

impl Product {
    fn new(weights: Operand, x: Operand) -> Self {
        Self {
            role: Role::Weight,
            weights,
            x,
        }
    }
}

/// Weights with as many axes as `x`.
fn aligned(weights: &Tensor, x: &Tensor) -> (Array, Array) {
    let (w, x) = (weights.floats(), x.floats());
    let shape = [vec![1; x.rank() - w.rank()], w.shape.clone()].concat();
    (oracle::reshape(&w, &shape), x)
}

fn product(weights: &Tensor, x: &Tensor) -> Array {
    let (w, x) = aligned(weights, x);
    oracle::matmul(&w, &x)
}

impl Problem for Product {
    fn stem(&self) -> &'static str {
        "matmul"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let weights = scene.leaf(self.role, &self.weights).normals(0.3)?;
        let n_rows: usize = self.x.shape.iter().rev().skip(1).product();
        let x = activations(scene, &self.x, n_rows * self.weights.from_end(1))?;
        let y = scene.apply(MatMul, &[&weights, &x])?;
        scene.expect(y, Tolerance::of("matmul", weights.dtype()), || {
            product(&weights, &x)
        })
    }
}

fn product_rows() -> Vec<Product> {
    let plain = |w: &[usize], x: &[usize]| Product::new(operand(F32, w), operand(F32, x));
    let mut rows = vec![
        plain(&[16, 33], &[0, 33]),
        plain(&[0, 33], &[3, 33]),
        plain(&[16, 0], &[3, 0]),
        plain(&[1, 1], &[1, 1]),
        plain(&[17, 1], &[7, 1]),
        plain(&[33, 7], &[2, 7]),
        plain(&[7, 257], &[16, 257]),
        plain(&[33, 64], &[2, 3, 5, 64]),
        plain(&[3, 33, 64], &[3, 5, 64]),
        plain(&[1, 33, 64], &[4, 5, 64]),
        plain(&[2, 33, 64], &[6, 5, 64]),
        plain(&[2, 1, 17, 32], &[2, 6, 3, 32]),
        plain(&[2, 3, 17, 32], &[4, 6, 3, 32]),
        plain(&[2, 17, 32], &[3, 4, 1, 32]),
        plain(&[2, 17, 32], &[0, 4, 1, 32]),
        plain(&[70, 130], &[70, 130]),
        plain(&[70, 132], &[2, 35, 132]),
    ];
    for dtype in WEIGHTS {
        let product = |m, k, n: &[usize]| {
            Product::new(operand(dtype, [m, k]), operand(F32, [n, &[k]].concat()))
        };
        for n in [1, 2, 7, 16, 40] {
            rows.push(product(33, inner_size(dtype, 1), &[n]));
        }
        rows.push(product(17, inner_size(dtype, 3), &[1]));
        rows.push(product(17, inner_size(dtype, 3), &[5]));
        rows.push(product(64, inner_size(dtype, 2), &[33]));
        rows.push(product(1, inner_size(dtype, 2), &[7]));
        rows.push(product(16, inner_size(dtype, 1), &[0]));
        let k = inner_size(dtype, 1);
        let grouped = Product::new(operand(dtype, [2, 18, k]), operand(F32, [6, 3, k]));
        rows.push(Product {
            role: Role::Input,
            ..grouped.clone()
        });
        rows.push(grouped);
        for view in [View::OuterReversed, View::Columns, View::Rows] {
            let weights = operand(dtype, [3, 18, k]).via(view);
            rows.push(Product::new(weights.clone(), operand(F32, [3, 4, k])));
            rows.push(Product {
                role: Role::State,
                ..Product::new(weights, operand(F32, [3, 1, k]).via(view))
            });
        }
        for x in FLOATS {
            rows.push(Product::new(operand(dtype, [18, k]), operand(x, [1, k])));
            rows.push(Product::new(
                operand(dtype, [18, k]),
                operand(x, [9, k]).via(View::Columns),
            ));
        }
    }
    for view in View::ROWS_WHOLE {
        rows.push(Product::new(
            operand(F32, [4, 18, 33]).via(view),
            operand(F32, [4, 3, 33]),
        ));
        rows.push(Product::new(
            operand(F32, [18, 33]),
            operand(F32, [2, 3, 4, 33]).via(view),
        ));
        rows.push(Product::new(
            operand(DType::Q8_0, [18, 64]),
            operand(F32, [4, 3, 64]).via(view),
        ));
    }
    rows
}

fn any_product() -> impl Strategy<Value = Product> {
    let roles = one_of([Role::Weight, Role::Weight, Role::Input]);
    let sizes = (
        1usize..40,
        0usize..24,
        1usize..3,
        one_of([1usize, 2, 3]),
        one_of([1usize, 3]),
    );
    let views = (
        one_of([View::Plain, View::Plain, View::Columns, View::Rows]),
        one_of(View::ROWS_WHOLE),
    );
    (one_of(WEIGHTS), roles, sizes, views, one_of(FLOATS)).prop_map(
        |(dtype, role, (m, n, blocks, batch, group), (w_view, x_view), x)| {
            let k = inner_size(dtype, blocks);
            Product {
                role,
                weights: operand(dtype, [batch, m.max(8), k]).via(w_view),
                x: operand(x, [batch * group, n, k]).via(x_view),
            }
        },
    )
}

/// `activation(x @ gate^T) * (x @ up^T)`.
#[derive(Clone, Debug)]
struct GatedProduct {
    kind: GluKind,
    gate: Operand,
    up: DType,
    x: Operand,
}

impl Problem for GatedProduct {
    fn stem(&self) -> &'static str {
        "matmul_glu"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let gate = scene.weight(&self.gate).normals(0.3)?;
        let up = scene
            .weight(&Operand {
                dtype: self.up,
                ..self.gate.clone()
            })
            .normals(0.3)?;
        let n_rows: usize = self.x.shape.iter().rev().skip(1).product();
        let x = activations(scene, &self.x, n_rows * self.gate.from_end(1))?;
        let y = scene.apply(MatMulGlu { kind: self.kind }, &[&gate, &up, &x])?;
        let tolerance = Tolerance::Op {
            stem: "matmul_glu",
            dtypes: vec![gate.dtype(), up.dtype()],
        };
        scene.expect(y, tolerance, || {
            oracle::glu_split(
                kinds::glu(self.kind),
                &product(&gate, &x),
                &product(&up, &x),
            )
        })
    }
}

fn gated_rows() -> Vec<GatedProduct> {
    let gated = |kind, gate: Operand, up, x: Operand| GatedProduct { kind, gate, up, x };
    let swiglu = GluKind::Swiglu;
    let plain = |w: &[usize], x: &[usize]| gated(swiglu, operand(F32, w), F32, operand(F32, x));
    let mut rows = vec![
        plain(&[17, 33], &[0, 33]),
        plain(&[17, 1], &[3, 1]),
        plain(&[33, 257], &[7, 257]),
        plain(&[2, 33, 64], &[4, 5, 64]),
        gated(
            swiglu,
            operand(DType::Q4_K, [33, 256]),
            DType::Q6_K,
            operand(F32, [3, 256]),
        ),
        gated(
            swiglu,
            operand(DType::Q8_0, [33, 256]),
            DType::F16,
            operand(F32, [3, 256]),
        ),
        gated(
            swiglu,
            operand(F32, [33, 64]).via(View::Columns),
            DType::BF16,
            operand(F32, [3, 64]),
        ),
    ];
    for kind in GluKind::ALL {
        rows.push(gated(
            kind,
            operand(F32, [33, 64]),
            F32,
            operand(F32, [3, 64]),
        ));
        rows.push(gated(
            kind,
            operand(DType::Q4_0, [33, 64]),
            DType::Q4_0,
            operand(F32, [1, 64]),
        ));
    }
    for dtype in WEIGHTS {
        let k = inner_size(dtype, 1);
        for n in [1, 7, 20] {
            rows.push(gated(
                swiglu,
                operand(dtype, [40, k]),
                dtype,
                operand(F32, [n, k]),
            ));
        }
        rows.push(gated(
            swiglu,
            operand(dtype, [33, k]).via(View::Rows),
            dtype,
            operand(DType::F16, [3, k]),
        ));
    }
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    match stem {
        "matmul" => Some(Family::new(product_rows(), any_product())),
        "matmul_glu" => {
            let sizes = (16usize..80, 0usize..24);
            let any = (
                one_of(GluKind::ALL),
                one_of(WEIGHTS),
                one_of(WEIGHTS),
                sizes,
                one_of(View::ROWS_WHOLE),
            );
            let any = any.prop_map(|(kind, gate, up, (m, n), view)| {
                let k = inner_size(gate, 1).max(inner_size(up, 1));
                GatedProduct {
                    kind,
                    gate: operand(gate, [m, k]),
                    up,
                    x: operand(F32, [n, k]).via(view),
                }
            });
            Some(Family::new(gated_rows(), any))
        }
        _ => None,
    }
}
