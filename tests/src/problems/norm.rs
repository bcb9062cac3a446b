//! Problems of norms.

use ggrs_core::ops::{AddRmsNorm, L2Norm, LayerNorm, RmsNorm};
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::{FLOATS, any_operand, one_of};
use crate::oracle::{self, Array, BinaryKind, binary, rms_norm};
use crate::problem::{Operand, Problem, Scene, Tolerance, View, operand};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Rms,
    WeightedRms,
    AddRms,
    Layer,
    L2,
}

/// What rows hold.
#[derive(Clone, Copy, Debug)]
enum Values {
    Normal,
    /// Far from 0: a variance by differences of squares would drown.
    Offset,
    /// So small that only epsilon keeps them from growing.
    Tiny,
    Zero,
}

#[derive(Clone, Debug)]
struct Norm {
    kind: Kind,
    eps: f32,
    x: Operand,
    values: Values,
    /// View of the second summand.
    b_view: View,
}

impl Norm {
    fn values(&self, scene: &mut Scene, x: &Operand) -> Array {
        let random = &mut scene.random;
        match self.values {
            Values::Normal => random.normals(&x.shape, 1.5),
            Values::Offset => random.uniforms(&x.shape, 90.0, 110.0),
            Values::Tiny => random.normals(&x.shape, 1e-4),
            Values::Zero => Array::filled(&x.shape, 0.0),
        }
    }
}

impl Problem for Norm {
    fn stem(&self) -> &'static str {
        match self.kind {
            Kind::Rms | Kind::WeightedRms => "rms_norm",
            Kind::AddRms => "add_rms_norm",
            Kind::Layer => "layer_norm",
            Kind::L2 => "l2_norm",
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let (eps, wide) = (Real(self.eps), f64::from(self.eps));
        let values = self.values(scene, &self.x);
        let x = scene.input(&self.x).values(&values)?;
        let tolerance = Tolerance::of(self.stem(), x.dtype());
        let weight = operand(DType::F32, [self.x.from_end(0)]);
        let weighted = |x: &Array, w: &Array| binary(BinaryKind::Mul, &rms_norm(x, wide), w);
        match self.kind {
            Kind::Rms => {
                let y = scene.apply(
                    RmsNorm {
                        eps,
                        weighted: false,
                    },
                    &[&x],
                )?;
                scene.expect(y, tolerance, || rms_norm(&x.floats(), wide))
            }
            Kind::WeightedRms => {
                let w = scene.weight(&weight).normals(1.0)?;
                let y = scene.apply(
                    RmsNorm {
                        eps,
                        weighted: true,
                    },
                    &[&x, &w],
                )?;
                scene.expect(y, tolerance, || weighted(&x.floats(), &w.floats()))
            }
            Kind::AddRms => {
                let b = self.x.clone().via(self.b_view);
                let values = self.values(scene, &b);
                let b = scene.input(&b).values(&values)?;
                let w = scene.weight(&weight).normals(1.0)?;
                let results = scene.push(AddRmsNorm { eps }, &[&x, &b, &w])?;
                let sum = || binary(BinaryKind::Add, &x.floats(), &b.floats());
                scene.expect(results[0], tolerance.clone(), sum)?;
                scene.expect(results[1], tolerance, || weighted(&sum(), &w.floats()))
            }
            Kind::Layer => {
                let y = scene.apply(LayerNorm { eps }, &[&x])?;
                scene.expect(y, tolerance, || oracle::layer_norm(&x.floats(), wide))
            }
            Kind::L2 => {
                let y = scene.apply(L2Norm { eps }, &[&x])?;
                scene.expect(y, tolerance, || oracle::l2_norm(&x.floats(), wide))
            }
        }
    }
}

fn rows(kind: Kind) -> Vec<Norm> {
    let norm = |x: Operand| Norm {
        kind,
        eps: 1e-6,
        x,
        values: Values::Normal,
        b_view: View::Plain,
    };
    let shapes: [&[usize]; 8] = [
        &[0, 7],
        &[3, 0],
        &[1],
        &[7],
        &[1, 1],
        &[3, 33],
        &[2, 3, 257],
        &[2, 1, 2, 3, 64],
    ];
    let mut rows: Vec<Norm> = shapes.map(|shape| norm(operand(DType::F32, shape))).into();
    rows.extend(FLOATS.map(|dtype| norm(operand(dtype, [5, 33]))));
    for view in View::ROWS_WHOLE {
        rows.push(norm(operand(DType::F32, [3, 4, 33]).via(view)));
        rows.push(Norm {
            b_view: view,
            ..norm(operand(DType::F16, [3, 4, 7]))
        });
    }
    for values in [Values::Offset, Values::Tiny, Values::Zero] {
        rows.push(Norm {
            values,
            ..norm(operand(DType::F32, [5, 128]))
        });
    }
    rows.push(Norm {
        eps: 0.0,
        ..norm(operand(DType::F32, [5, 33]))
    });
    rows.push(Norm {
        eps: 0.5,
        ..norm(operand(DType::F32, [5, 33]))
    });
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let kinds: &[Kind] = match stem {
        "rms_norm" => &[Kind::Rms, Kind::WeightedRms],
        "add_rms_norm" => &[Kind::AddRms],
        "layer_norm" => &[Kind::Layer],
        "l2_norm" => &[Kind::L2],
        _ => return None,
    };
    let x = any_operand(1..=4, FLOATS, View::ROWS_WHOLE);
    let any = (
        one_of(kinds),
        one_of([1e-6, 1e-5, 0.1]),
        x,
        one_of(View::ROWS_WHOLE),
    );
    let any = any.prop_map(|(kind, eps, x, b_view)| Norm {
        kind,
        eps,
        x,
        values: Values::Normal,
        b_view,
    });
    Some(Family::new(kinds.iter().flat_map(|&kind| rows(kind)), any))
}
