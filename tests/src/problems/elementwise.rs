//! Problems of elementwise ops: arithmetic with every broadcast, scale, clamp, functions of one element.

use ggrs_core::ops::{Binary, BinaryKind, Clamp, OpSpec, Scale, Unary, UnaryKind};
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::Strategy;

use super::strategies::{FLOATS, any_operand, one_of, shape};
use super::{Family, kinds};
use crate::oracle::{self, Array};
use crate::problem::{Operand, Problem, Scene, Tolerance, View, operand};

const F32: DType = DType::F32;

#[derive(Clone, Debug)]
struct Arithmetic {
    kind: BinaryKind,
    lhs: Operand,
    rhs: Operand,
}

impl Problem for Arithmetic {
    fn stem(&self) -> &'static str {
        Binary { kind: self.kind }.stem()
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let lhs = scene.input(&self.lhs).normals(1.0)?;
        // Away from 0, so that quotients stay in range.
        let rhs = scene.input(&self.rhs).uniforms(0.5, 2.0)?;
        let y = scene.apply(Binary { kind: self.kind }, &[&lhs, &rhs])?;
        let kind = kinds::binary(self.kind);
        scene.expect(y, Tolerance::of(self.stem(), lhs.dtype()), || {
            oracle::binary(kind, &lhs.floats(), &rhs.floats())
        })
    }
}

/// `shape` with some axes set to 1: bit `i` of `mask` for axis `i`.
fn with_ones(shape: &[usize], mask: usize) -> Vec<usize> {
    shape
        .iter()
        .enumerate()
        .map(|(axis, &n)| if mask >> axis & 1 == 1 { 1 } else { n })
        .collect()
}

fn arithmetic_rows(kind: BinaryKind) -> Vec<Arithmetic> {
    let case = |lhs: Operand, rhs: Operand| Arithmetic { kind, lhs, rhs };
    let plain = |lhs: &[usize], rhs: &[usize]| case(operand(F32, lhs), operand(F32, rhs));
    let mut rows = vec![
        plain(&[0, 7], &[0, 7]),
        plain(&[0, 7], &[7]),
        plain(&[], &[]),
        plain(&[1], &[1]),
        plain(&[3, 257], &[3, 257]),
        plain(&[2, 3, 4, 5], &[5]),
        plain(&[2, 3, 4, 5], &[4, 1]),
        plain(&[2, 2, 3, 2, 5], &[2, 1, 3, 1, 5]),
        plain(&[5], &[3, 5]),
        plain(&[3, 1, 5], &[4, 1]),
        plain(&[1, 1], &[3, 33]),
    ];
    for mask in 0..8 {
        rows.push(plain(&[3, 4, 5], &with_ones(&[3, 4, 5], mask)));
        rows.push(plain(&with_ones(&[3, 4, 5], mask), &[3, 4, 5]));
    }
    for lhs in FLOATS {
        for rhs in FLOATS {
            rows.push(case(operand(lhs, [3, 33]), operand(rhs, [3, 33])));
            rows.push(case(operand(lhs, [3, 33]), operand(rhs, [1, 33])));
        }
    }
    for view in View::ALL {
        rows.push(case(
            operand(F32, [3, 4, 33]).via(view),
            operand(F32, [3, 4, 33]),
        ));
        rows.push(case(
            operand(F32, [3, 4, 33]),
            operand(F32, [3, 4, 33]).via(view),
        ));
        rows.push(case(
            operand(DType::F16, [3, 4, 7]).via(view),
            operand(F32, [4, 7]).via(view),
        ));
    }
    rows
}

fn any_arithmetic(kind: BinaryKind) -> impl Strategy<Value = Arithmetic> {
    let views = || one_of(View::ALL);
    let dtypes = (one_of(FLOATS), one_of(FLOATS));
    (
        shape(1..=4),
        0usize..16,
        0usize..16,
        0usize..4,
        dtypes,
        views(),
        views(),
    )
        .prop_map(
            move |(shape, ones_lhs, ones_rhs, dropped, (lhs, rhs), view_lhs, view_rhs)| {
                let short = with_ones(&shape, ones_rhs).split_off(dropped.min(shape.len()));
                Arithmetic {
                    kind,
                    lhs: operand(lhs, with_ones(&shape, ones_lhs)).via(view_lhs),
                    rhs: operand(rhs, short).via(view_rhs),
                }
            },
        )
}

/// A function of each element and the values it is asked for.
#[derive(Clone, Debug)]
struct Function {
    kind: UnaryKind,
    x: Operand,
    values: Values,
}

/// Arguments of a function.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// Where activations are.
    Usual,
    /// Both ends, where functions saturate, overflow or underflow.
    Ends,
}

const ENDS: [f64; 14] = [
    -1e4, -104.0, -88.0, -20.0, -10.5, -1.0, -1e-6, 0.0, 1e-6, 1.0, 10.5, 20.0, 88.0, 1e4,
];

impl Problem for Function {
    fn stem(&self) -> &'static str {
        Unary { kind: self.kind }.stem()
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let leaf = scene.input(&self.x);
        let x = match (self.values, self.kind) {
            (Values::Ends, UnaryKind::Sqrt) => {
                leaf.values(&Array::new(&[14], ENDS.map(f64::abs).into()))
            }
            (Values::Ends, _) => leaf.values(&Array::new(&[14], ENDS.into())),
            (Values::Usual, UnaryKind::Sqrt) => leaf.uniforms(0.0, 9.0),
            (Values::Usual, UnaryKind::Sin | UnaryKind::Cos) => leaf.uniforms(-40.0, 40.0),
            (Values::Usual, _) => leaf.normals(3.0),
        }?;
        let y = scene.apply(Unary { kind: self.kind }, &[&x])?;
        let kind = kinds::unary(self.kind);
        scene.expect(y, Tolerance::of(self.stem(), x.dtype()), || {
            oracle::unary(kind, &x.floats())
        })
    }
}

fn function_rows(kind: UnaryKind) -> Vec<Function> {
    let mut rows: Vec<Function> = FLOATS
        .iter()
        .map(|&dtype| Function {
            kind,
            x: operand(dtype, [14]),
            values: Values::Ends,
        })
        .collect();
    rows.extend(operand_rows().into_iter().map(|x| Function {
        kind,
        x,
        values: Values::Usual,
    }));
    rows
}

/// Operands for ops with one of any dtype and stride.
fn operand_rows() -> Vec<Operand> {
    let mut rows: Vec<Operand> = [
        &[][..],
        &[0],
        &[0, 7],
        &[1],
        &[7],
        &[3, 257],
        &[2, 3, 2, 3, 33],
    ]
    .map(|shape| operand(F32, shape))
    .into();
    rows.extend(FLOATS.map(|dtype| operand(dtype, [5, 33])));
    rows.extend(View::ALL.map(|view| operand(F32, [3, 4, 33]).via(view)));
    rows.extend(View::ALL.map(|view| operand(DType::BF16, [3, 4, 7]).via(view)));
    rows
}

#[derive(Clone, Debug)]
struct Scaled {
    scale: f32,
    bias: f32,
    x: Operand,
}

impl Problem for Scaled {
    fn stem(&self) -> &'static str {
        "scale"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene.input(&self.x).normals(1.0)?;
        let y = scene.apply(
            Scale {
                scale: Real(self.scale),
                bias: Real(self.bias),
            },
            &[&x],
        )?;
        scene.expect(y, Tolerance::of("scale", x.dtype()), || {
            oracle::scale(&x.floats(), self.scale.into(), self.bias.into())
        })
    }
}

#[derive(Clone, Debug)]
struct Clamped {
    min: f32,
    max: f32,
    x: Operand,
}

impl Problem for Clamped {
    fn stem(&self) -> &'static str {
        "clamp"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene.input(&self.x).normals(1.0)?;
        let y = scene.apply(
            Clamp {
                min: Real(self.min),
                max: Real(self.max),
            },
            &[&x],
        )?;
        scene.expect(y, Tolerance::of("clamp", x.dtype()), || {
            oracle::clamp(&x.floats(), self.min.into(), self.max.into())
        })
    }
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let any_x = || any_operand(0..=4, FLOATS, View::ALL);
    match stem {
        "scale" => {
            let rows = operand_rows().into_iter().map(|x| Scaled {
                scale: -1.5,
                bias: 0.25,
                x,
            });
            let zero = Scaled {
                scale: 0.0,
                bias: 0.0,
                x: operand(F32, [33]),
            };
            let any = (-4f32..4.0, -1f32..1.0, any_x()).prop_map(|(scale, bias, x)| Scaled {
                scale,
                bias,
                x,
            });
            Some(Family::new(rows.chain([zero]), any))
        }
        "clamp" => {
            let rows = operand_rows().into_iter().map(|x| Clamped {
                min: -0.5,
                max: 0.75,
                x,
            });
            let edges = [(f32::NEG_INFINITY, 0.0), (0.0, f32::INFINITY), (0.25, 0.25)];
            let edges = edges.map(|(min, max)| Clamped {
                min,
                max,
                x: operand(F32, [7, 33]),
            });
            let any =
                (-2f32..0.0, 0f32..2.0, any_x()).prop_map(|(min, max, x)| Clamped { min, max, x });
            Some(Family::new(rows.chain(edges), any))
        }
        _ => {
            let arithmetic = kinds::BINARY
                .into_iter()
                .find(|&kind| Binary { kind }.stem() == stem);
            if let Some(kind) = arithmetic {
                return Some(Family::new(arithmetic_rows(kind), any_arithmetic(kind)));
            }
            let kind = UnaryKind::ALL
                .into_iter()
                .find(|&kind| Unary { kind }.stem() == stem)?;
            let any = any_x().prop_map(move |x| Function {
                kind,
                x,
                values: Values::Usual,
            });
            Some(Family::new(function_rows(kind), any))
        }
    }
}
