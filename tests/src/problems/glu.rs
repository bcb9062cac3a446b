//! Problems of gated linear units, split and fused.

use ggrs_core::ops::{Glu, GluInput, GluKind, OpSpec};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::strategies::{FLOATS, any_operand, one_of};
use super::{Family, kinds};
use crate::oracle;
use crate::problem::{Operand, Problem, Scene, Tolerance, View, operand};

/// Gate and up as one operand; split, both have its shape.
#[derive(Clone, Debug)]
struct Gated {
    kind: GluKind,
    input: GluInput,
    x: Operand,
    up_view: View,
}

impl Problem for Gated {
    fn stem(&self) -> &'static str {
        Glu {
            kind: self.kind,
            input: self.input,
        }
        .stem()
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let (op, kind) = (
            Glu {
                kind: self.kind,
                input: self.input,
            },
            kinds::glu(self.kind),
        );
        let x = scene.input(&self.x).normals(2.0)?;
        let tolerance = Tolerance::of(self.stem(), x.dtype());
        if self.input == GluInput::Split {
            let up = scene
                .input(&self.x.clone().via(self.up_view))
                .normals(1.0)?;
            let y = scene.apply(op, &[&x, &up])?;
            return scene.expect(y, tolerance, || {
                oracle::glu_split(kind, &x.floats(), &up.floats())
            });
        }
        let y = scene.apply(op, &[&x])?;
        scene.expect(y, tolerance, || {
            oracle::glu_fused(kind, &x.floats(), self.input == GluInput::UpGate)
        })
    }
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let kind = GluKind::ALL.into_iter().find(|kind| kind.stem() == stem)?;
    let gated = move |input, x: Operand| Gated {
        kind,
        input,
        x,
        up_view: View::Plain,
    };
    let mut rows = Vec::new();
    for input in [GluInput::Split, GluInput::GateUp, GluInput::UpGate] {
        let shapes: [&[usize]; 6] = [&[0, 8], &[3, 0], &[2], &[1, 2], &[5, 66], &[2, 3, 514]];
        rows.extend(shapes.map(|shape| gated(input, operand(DType::F32, shape))));
        rows.extend(FLOATS.map(|dtype| gated(input, operand(dtype, [4, 66]))));
        for view in View::ROWS_WHOLE {
            rows.push(Gated {
                up_view: View::Columns,
                ..gated(input, operand(DType::F32, [3, 4, 14]).via(view))
            });
            rows.push(Gated {
                up_view: view,
                ..gated(input, operand(DType::F16, [3, 4, 14]))
            });
        }
    }
    rows.push(gated(GluInput::Split, operand(DType::F32, [3, 7])));
    let inputs = one_of([GluInput::Split, GluInput::GateUp, GluInput::UpGate]);
    let any = (
        inputs,
        any_operand(1..=4, FLOATS, View::ROWS_WHOLE),
        one_of(View::ROWS_WHOLE),
    );
    let any = any.prop_map(move |(input, mut x, up_view)| {
        if let Some(width) = x.shape.last_mut().filter(|_| input != GluInput::Split) {
            *width *= 2;
        }
        Gated {
            kind,
            input,
            x,
            up_view,
        }
    });
    Some(Family::new(rows, any))
}
