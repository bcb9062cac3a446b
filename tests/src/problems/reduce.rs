//! Problems of sums, means and running sums.

use ggrs_core::ops::{CumSum, Reduce, ReduceKind};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::any_operand;
use crate::oracle;
use crate::problem::{Operand, Problem, Scene, Tolerance, View, operand};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sum(usize),
    Mean(usize),
    Running,
}

#[derive(Clone, Debug)]
struct Reduced {
    kind: Kind,
    x: Operand,
}

impl Problem for Reduced {
    fn stem(&self) -> &'static str {
        match self.kind {
            Kind::Sum(_) => "sum",
            Kind::Mean(_) => "mean",
            Kind::Running => "cumsum",
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        // Of both signs, but no sum is close to 0: that would measure the cancellation.
        let x = scene.input(&self.x).uniforms(-0.5, 1.5)?;
        let y = match self.kind {
            Kind::Sum(axis) => scene.apply(
                Reduce {
                    kind: ReduceKind::Sum,
                    axis,
                },
                &[&x],
            ),
            Kind::Mean(axis) => scene.apply(
                Reduce {
                    kind: ReduceKind::Mean,
                    axis,
                },
                &[&x],
            ),
            Kind::Running => scene.apply(CumSum, &[&x]),
        }?;
        scene.expect(y, Tolerance::of(self.stem(), DType::F32), || {
            match self.kind {
                Kind::Sum(axis) => oracle::sum(&x.floats(), axis),
                Kind::Mean(axis) => oracle::mean(&x.floats(), axis),
                Kind::Running => oracle::cumsum(&x.floats()),
            }
        })
    }
}

fn operands(views: &[View]) -> Vec<Operand> {
    let shapes: [&[usize]; 7] = [
        &[0, 7],
        &[3, 0],
        &[1],
        &[7],
        &[5, 257],
        &[2, 3, 4, 33],
        &[2, 2, 3, 2, 5],
    ];
    let mut operands: Vec<Operand> = shapes.map(|shape| operand(DType::F32, shape)).into();
    operands.extend(
        views
            .iter()
            .map(|&view| operand(DType::F32, [3, 4, 33]).via(view)),
    );
    operands
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let along = |kind: fn(usize) -> Kind| {
        let axes = move |x: Operand| {
            (0..x.shape.len()).map(move |axis| Reduced {
                kind: kind(axis),
                x: x.clone(),
            })
        };
        operands(&View::ALL).into_iter().flat_map(axes)
    };
    let any = |kind: fn(usize) -> Kind| {
        (any_operand(1..=4, [DType::F32], View::ALL), 0usize..4).prop_map(move |(mut x, axis)| {
            let axis = axis % x.shape.len();
            x.shape[axis] = x.shape[axis].max(1);
            Reduced {
                kind: kind(axis),
                x,
            }
        })
    };
    match stem {
        "sum" => Some(Family::new(along(Kind::Sum), any(Kind::Sum))),
        "mean" => {
            let is_defined =
                |row: &Reduced| !matches!(row.kind, Kind::Mean(axis) if row.x.shape[axis] == 0);
            Some(Family::new(
                along(Kind::Mean).filter(is_defined),
                any(Kind::Mean),
            ))
        }
        "cumsum" => {
            let rows = operands(&View::ROWS_WHOLE).into_iter().map(|x| Reduced {
                kind: Kind::Running,
                x,
            });
            let any = any_operand(1..=4, [DType::F32], View::ROWS_WHOLE);
            Some(Family::new(
                rows,
                any.prop_map(|x| Reduced {
                    kind: Kind::Running,
                    x,
                }),
            ))
        }
        _ => None,
    }
}
