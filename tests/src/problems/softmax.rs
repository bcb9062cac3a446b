//! Problems of softmax: scale, masks that broadcast and hide whole rows, sinks.

use ggrs_core::ops::Softmax;
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::Family;
use super::strategies::{FLOATS, any_operand, one_of};
use crate::oracle::{self, Array};
use crate::problem::{Operand, Problem, Scene, Tensor, Tolerance, View, operand};

#[derive(Clone, Debug)]
struct Soft {
    scale: f32,
    x: Operand,
    mask: Option<Operand>,
    sinks: bool,
}

impl Problem for Soft {
    fn stem(&self) -> &'static str {
        "softmax"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene.input(&self.x).normals(2.0)?;
        let mask = match &self.mask {
            None => None,
            Some(mask) => {
                let (bias, hidden) = (
                    scene.random.normals(&mask.shape, 1.0),
                    scene.random.ids(&mask.shape, 3),
                );
                let rows_of = mask.shape.len().saturating_sub(2);
                let values = Array::from_fn(&mask.shape, |i| {
                    // Every fourth row sees nothing.
                    let is_hidden =
                        hidden.at(i) == 0 || i.get(rows_of).is_some_and(|row| row % 4 == 3);
                    if is_hidden {
                        f64::NEG_INFINITY
                    } else {
                        bias.at(i)
                    }
                });
                Some(scene.input(mask).values(&values)?)
            }
        };
        let n_heads = self.x.from_end(2);
        let sinks = self
            .sinks
            .then(|| scene.input(&operand(DType::F32, [n_heads])).normals(1.0))
            .transpose()?;
        let op = Softmax {
            scale: Real(self.scale),
            mask: mask.is_some(),
            sinks: self.sinks,
        };
        let mut operands = vec![&x];
        operands.extend(&mask);
        operands.extend(&sinks);
        let y = scene.apply(op, &operands)?;
        scene.expect(y, Tolerance::of("softmax", x.dtype()), || {
            let (mask, sinks) = (
                mask.as_ref().map(Tensor::floats),
                sinks.as_ref().map(Tensor::floats),
            );
            oracle::softmax(
                &x.floats(),
                self.scale.into(),
                mask.as_ref(),
                sinks.as_ref(),
            )
        })
    }
}

fn rows() -> Vec<Soft> {
    let f32 = DType::F32;
    let soft = |x: Operand| Soft {
        scale: 0.7,
        x,
        mask: None,
        sinks: false,
    };
    let masked = |x: Operand, mask: Operand| Soft {
        mask: Some(mask),
        ..soft(x)
    };
    let shapes: [&[usize]; 8] = [
        &[0, 7],
        &[3, 0],
        &[1],
        &[7],
        &[3, 1],
        &[3, 33],
        &[2, 3, 257],
        &[2, 2, 3, 5, 17],
    ];
    let mut rows: Vec<Soft> = shapes.map(|shape| soft(operand(f32, shape))).into();
    rows.extend(FLOATS.map(|dtype| soft(operand(dtype, [5, 33]))));
    rows.extend(View::ROWS_WHOLE.map(|view| soft(operand(f32, [3, 4, 33]).via(view))));
    let masks: [&[usize]; 7] = [
        &[33],
        &[5, 33],
        &[1, 33],
        &[4, 5, 33],
        &[1, 5, 33],
        &[2, 1, 5, 33],
        &[2, 4, 1, 33],
    ];
    for shape in masks {
        rows.push(masked(operand(f32, [2, 4, 5, 33]), operand(f32, shape)));
        rows.push(Soft {
            sinks: true,
            ..masked(operand(f32, [2, 4, 5, 33]), operand(DType::F16, shape))
        });
    }
    for view in View::ROWS_WHOLE {
        rows.push(masked(
            operand(DType::F16, [4, 5, 7]),
            operand(f32, [4, 5, 7]).via(view),
        ));
    }
    rows.push(Soft {
        sinks: true,
        ..soft(operand(f32, [3, 4, 5]))
    });
    rows.push(Soft {
        sinks: true,
        ..soft(operand(f32, [2, 3, 0, 5]))
    });
    rows.push(Soft {
        scale: 0.0,
        ..soft(operand(f32, [3, 7]))
    });
    rows.push(Soft {
        scale: 60.0,
        ..soft(operand(f32, [3, 33]))
    });
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let x = any_operand(3..=4, FLOATS, View::ROWS_WHOLE);
    let mask = (
        0usize..16,
        one_of([DType::F32, DType::F16]),
        one_of(View::ROWS_WHOLE),
    );
    let mask = prop_oneof![Just(None), mask.prop_map(Some)];
    let any = (0.1f32..2.0, x, mask, any::<bool>()).prop_map(|(scale, x, mask, sinks)| {
        let last = x.shape.len() - 1;
        let mask = mask.map(|(ones, dtype, view)| {
            let sizes = x.shape.iter().enumerate();
            let shape: Vec<usize> = sizes
                .map(|(i, &n)| if i < last && ones >> i & 1 == 1 { 1 } else { n })
                .collect();
            operand(dtype, shape).via(view)
        });
        Soft {
            scale,
            x,
            mask,
            sinks,
        }
    });
    (stem == "softmax").then(|| Family::new(rows(), any))
}
