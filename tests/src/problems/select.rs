//! Problems of order: the k largest, the sorting order, the largest. Ties go to the lower position, a NaN is a fault.

use ggrs_core::error::Fault;
use ggrs_core::ops::{Argmax, Argsort, SortOrder, TopK};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::{any_operand, one_of};
use crate::oracle::{self, Array};
use crate::problem::{Operand, Problem, Scene, Tensor, Tolerance, View, operand};

#[derive(Clone, Copy, Debug)]
enum Values {
    Normal,
    /// Few different values.
    Ties,
    /// Infinities of both signs among the others.
    Infinite,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Top(usize),
    Sort(SortOrder),
    Max,
}

#[derive(Clone, Debug)]
struct Ordered {
    kind: Kind,
    x: Operand,
    values: Values,
}

impl Ordered {
    fn values(&self, scene: &mut Scene) -> Array {
        let shape = &self.x.shape;
        let few = scene.random.ids(shape, 4);
        match self.values {
            Values::Normal => scene.random.normals(shape, 1.0),
            Values::Ties => few.map(|id| id as f64 - 1.0),
            Values::Infinite => {
                let others = scene.random.normals(shape, 1.0);
                Array::from_fn(shape, |i| match few.at(i) {
                    0 => f64::INFINITY,
                    1 => f64::NEG_INFINITY,
                    _ => others.at(i),
                })
            }
        }
    }

    /// A NaN at the end of the last row.
    fn refuse(&self, scene: &mut Scene, x: &Tensor, values: &Array) {
        let mut bad = values.clone();
        let Some(last) = bad
            .data
            .last_mut()
            .filter(|_| !matches!(self.x.view, View::Repeated(_)))
        else {
            return;
        };
        *last = f64::NAN;
        let row = values.data.len() / values.row_len() - 1;
        scene.refuse_floats(x, &bad, Fault::NotANumber { role: "x", row });
    }
}

impl Problem for Ordered {
    fn stem(&self) -> &'static str {
        match self.kind {
            Kind::Top(_) => "top_k",
            Kind::Sort(_) => "argsort",
            Kind::Max => "argmax",
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let values = self.values(scene);
        let x = scene.input(&self.x).values(&values)?;
        match self.kind {
            Kind::Top(k) => {
                let results = scene.push(TopK { k }, &[&x])?;
                scene.expect(results[0], Tolerance::of("top_k", DType::F32), || {
                    oracle::top_k(&x.floats(), k).0
                })?;
                scene.expect_ints(results[1], || oracle::top_k(&x.floats(), k).1)?;
            }
            Kind::Sort(order) => {
                let y = scene.apply(Argsort { order }, &[&x])?;
                scene.expect_ints(y, || {
                    oracle::argsort(&x.floats(), order == SortOrder::Descending)
                })?;
            }
            Kind::Max => {
                let y = scene.apply(Argmax, &[&x])?;
                scene.expect_ints(y, || oracle::argmax(&x.floats()))?;
            }
        }
        self.refuse(scene, &x, &values);
        Ok(())
    }
}

fn rows(kinds: impl Fn(usize) -> Vec<Kind>) -> Vec<Ordered> {
    let shapes: [&[usize]; 8] = [
        &[0, 7],
        &[1],
        &[7],
        &[3, 33],
        &[5, 257],
        &[2, 3, 2, 17],
        &[1, 1000],
        // More than one block sorts at a time.
        &[2, 9001],
    ];
    let mut operands: Vec<Operand> = shapes.map(|shape| operand(DType::F32, shape)).into();
    operands.extend(View::ROWS_WHOLE.map(|view| operand(DType::F32, [3, 4, 33]).via(view)));
    let mut rows = Vec::new();
    for x in operands {
        for values in [Values::Normal, Values::Ties, Values::Infinite] {
            rows.extend(kinds(x.from_end(0)).into_iter().map(|kind| Ordered {
                kind,
                x: x.clone(),
                values,
            }));
        }
    }
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let x = any_operand(1..=4, [DType::F32], View::ROWS_WHOLE).prop_map(|mut x| {
        if let Some(width) = x.shape.last_mut() {
            *width = (*width).max(1);
        }
        x
    });
    let any = (
        x,
        one_of([Values::Normal, Values::Ties]),
        0usize..40,
        proptest::bool::ANY,
    );
    let order = |descending| {
        if descending {
            SortOrder::Descending
        } else {
            SortOrder::Ascending
        }
    };
    match stem {
        "top_k" => {
            let kinds = |n: usize| {
                [1, 2, 8, 33, 40, 1500, n]
                    .into_iter()
                    .filter(|k| *k <= n)
                    .map(Kind::Top)
                    .collect()
            };
            let any = any.prop_map(|(x, values, k, _)| Ordered {
                kind: Kind::Top(k % x.from_end(0) + 1),
                x,
                values,
            });
            Some(Family::new(rows(kinds), any))
        }
        "argsort" => {
            let kinds = |_| {
                vec![
                    Kind::Sort(SortOrder::Ascending),
                    Kind::Sort(SortOrder::Descending),
                ]
            };
            let any = any.prop_map(move |(x, values, _, down)| Ordered {
                kind: Kind::Sort(order(down)),
                x,
                values,
            });
            let empty = Ordered {
                kind: Kind::Sort(SortOrder::Ascending),
                x: operand(DType::F32, [3, 0]),
                values: Values::Normal,
            };
            Some(Family::new(rows(kinds).into_iter().chain([empty]), any))
        }
        "argmax" => {
            let any = any.prop_map(|(x, values, ..)| Ordered {
                kind: Kind::Max,
                x,
                values,
            });
            Some(Family::new(rows(|_| vec![Kind::Max]), any))
        }
        _ => None,
    }
}
