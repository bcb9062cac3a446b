//! Problems of the rotary embedding: pairings, sections, partial rotation, factors, YaRN, far positions.

use ggrs_core::ops::{Rope, RopeMode, Yarn};
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::strategies::{FLOATS, one_of};
use super::{Family, kinds};
use crate::oracle::{self, RopeParams};
use crate::problem::{Operand, Problem, Scene, Tensor, Tolerance, View, operand};

#[derive(Clone, Debug)]
struct Rotated {
    mode: RopeMode,
    n_rot: usize,
    x: Operand,
    base: f32,
    yarn: Option<Yarn>,
    factors: bool,
    max_position: usize,
}

impl Rotated {
    fn plain(x: Operand) -> Self {
        let n_rot = x.from_end(0);
        Self {
            mode: RopeMode::Neox,
            n_rot,
            x,
            base: 1e6,
            yarn: None,
            factors: false,
            max_position: 1000,
        }
    }

    fn params(&self) -> RopeParams {
        let yarn = self.yarn.unwrap_or_default();
        RopeParams {
            mode: kinds::rope_mode(self.mode),
            n_rot: self.n_rot,
            freq_base: self.base.into(),
            freq_scale: yarn.freq_scale.0.into(),
            ext_factor: yarn.ext_factor.0.into(),
            attn_factor: yarn.attn_factor.0.into(),
            beta_fast: yarn.beta_fast.0.into(),
            beta_slow: yarn.beta_slow.0.into(),
            n_ctx_orig: yarn.n_ctx_orig,
        }
    }
}

impl Problem for Rotated {
    fn stem(&self) -> &'static str {
        "rope"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene.input(&self.x).normals(1.0)?;
        let n_tokens = self.x.from_end(2);
        let shape = match self.mode.position_rows() {
            1 => vec![n_tokens],
            rows => vec![rows, n_tokens],
        };
        let positions = scene
            .input(&operand(DType::I32, shape))
            .ids_below(self.max_position + 1)?;
        let factors = operand(DType::F32, [self.n_rot / 2]);
        let factors = self
            .factors
            .then(|| scene.weight(&factors).uniforms(0.5, 8.0))
            .transpose()?;
        let op = Rope {
            mode: self.mode,
            n_rot: self.n_rot,
            base: Real(self.base),
            yarn: self.yarn.unwrap_or_default(),
            factors: self.factors,
        };
        let mut operands = vec![&x, &positions];
        operands.extend(&factors);
        let y = scene.apply(op, &operands)?;
        let tolerance = Tolerance::Rope {
            max_position: self.max_position,
            dtype: x.dtype(),
        };
        scene.expect(y, tolerance, || {
            let factors = factors.as_ref().map(Tensor::floats);
            oracle::rope(
                &x.floats(),
                &positions.ints(),
                factors.as_ref(),
                &self.params(),
            )
        })
    }
}

fn yarn() -> Yarn {
    Yarn {
        n_ctx_orig: 4096,
        freq_scale: Real(0.25),
        ext_factor: Real(1.0),
        attn_factor: Real(0.9),
        ..Yarn::default()
    }
}

const MODES: [RopeMode; 6] = [
    RopeMode::Normal,
    RopeMode::Neox,
    RopeMode::Multi([4, 3, 5, 4]),
    RopeMode::Multi([2, 0, 3, 0]),
    RopeMode::Interleaved([6, 5, 5, 0]),
    RopeMode::Interleaved([4, 3, 3, 6]),
];

fn rows() -> Vec<Rotated> {
    let f32 = DType::F32;
    let mut rows = Vec::new();
    for mode in MODES {
        let of = |x: Operand| Rotated {
            mode,
            ..Rotated::plain(x)
        };
        let shapes: [&[usize]; 7] = [
            &[0, 2, 8],
            &[3, 0, 8],
            &[1, 1, 2],
            &[5, 3, 32],
            &[2, 5, 3, 32],
            &[2, 2, 3, 1, 6],
            &[17, 2, 128],
        ];
        rows.extend(shapes.map(|shape| of(operand(f32, shape))));
        rows.push(Rotated {
            n_rot: 20,
            ..of(operand(f32, [5, 3, 33]))
        });
        rows.push(Rotated {
            n_rot: 2,
            ..of(operand(f32, [5, 3, 7]))
        });
        rows.push(Rotated {
            factors: true,
            ..of(operand(f32, [5, 3, 32]))
        });
        rows.push(Rotated {
            yarn: Some(yarn()),
            ..of(operand(f32, [5, 3, 64]))
        });
        rows.push(Rotated {
            yarn: Some(yarn()),
            factors: true,
            n_rot: 32,
            ..of(operand(f32, [5, 3, 64]))
        });
        rows.extend([10_000, 200_000].map(|max_position| Rotated {
            max_position,
            ..of(operand(f32, [9, 2, 64]))
        }));
        rows.extend(FLOATS.map(|dtype| of(operand(dtype, [5, 3, 32]))));
        rows.extend(View::ROWS_WHOLE.map(|view| of(operand(f32, [2, 5, 3, 32]).via(view))));
    }
    let linear = Yarn {
        freq_scale: Real(0.5),
        attn_factor: Real(1.5),
        ..Yarn::default()
    };
    rows.push(Rotated {
        yarn: Some(linear),
        base: 1e4,
        ..Rotated::plain(operand(f32, [5, 3, 64]))
    });
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let sizes = (
        0usize..3,
        0usize..9,
        1usize..4,
        one_of([2usize, 6, 32, 33, 64]),
        1usize..40,
    );
    let x = (one_of(FLOATS), one_of(View::ROWS_WHOLE));
    let yarns = prop_oneof![Just(None), Just(Some(yarn()))];
    let any = (
        one_of(MODES),
        sizes,
        x,
        yarns,
        any::<bool>(),
        one_of([100usize, 5000]),
    )
        .prop_map(
            |(
                mode,
                (batch, tokens, heads, width, half),
                (dtype, view),
                yarn,
                factors,
                max_position,
            )| {
                let x = operand(dtype, [batch, tokens, heads, width]).via(view);
                let n_rot = 2 * half.min(width / 2);
                Rotated {
                    n_rot,
                    mode,
                    yarn,
                    factors,
                    max_position,
                    ..Rotated::plain(x)
                }
            },
        );
    (stem == "rope").then(|| Family::new(rows(), any))
}
