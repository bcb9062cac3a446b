//! Problems of recurrent mixers: the short convolution and the gated delta rule.

use ggrs_core::ops::{GatedDeltaNet, SsmConv};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::one_of;
use crate::oracle::{self, DeltaNetInputs};
use crate::problem::{Problem, Scene, Tolerance, View, operand};

const F32: DType = DType::F32;

#[derive(Clone, Debug)]
struct Convolved {
    sequences: usize,
    channels: usize,
    taps: usize,
    tokens: usize,
    view: View,
}

impl Problem for Convolved {
    fn stem(&self) -> &'static str {
        "ssm_conv"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = operand(
            F32,
            [self.sequences, self.channels, self.taps - 1 + self.tokens],
        )
        .via(self.view);
        let x = scene.input(&x).normals(1.0)?;
        let weights = scene
            .weight(&operand(F32, [self.channels, self.taps]))
            .normals(1.0)?;
        let y = scene.apply(SsmConv, &[&x, &weights])?;
        scene.expect(y, Tolerance::of("ssm_conv", F32), || {
            oracle::ssm_conv(&x.floats(), &weights.floats())
        })
    }
}

fn convolved_rows() -> Vec<Convolved> {
    let conv = |sequences, channels, taps, tokens| Convolved {
        sequences,
        channels,
        taps,
        tokens,
        view: View::Plain,
    };
    let mut rows = vec![
        conv(1, 33, 4, 0),
        conv(0, 33, 4, 3),
        conv(1, 0, 4, 3),
        conv(1, 1, 1, 1),
        conv(1, 33, 4, 1),
        conv(3, 7, 4, 5),
        conv(2, 257, 3, 2),
        conv(2, 64, 4, 70),
        conv(1, 40, 9, 3),
        conv(1, 40, 70, 9),
    ];
    rows.extend(View::ROWS_WHOLE.map(|view| Convolved {
        view,
        ..conv(3, 33, 4, 5)
    }));
    rows
}

#[derive(Clone, Debug)]
struct DeltaNet {
    batch: usize,
    tokens: usize,
    /// Key heads, value heads.
    heads: (usize, usize),
    width: usize,
    /// One decay per key element, not per head.
    wide_decay: bool,
    snapshots: usize,
    /// Of q, k and v.
    view: View,
    beta_view: View,
}

impl Problem for DeltaNet {
    fn stem(&self) -> &'static str {
        "gated_delta_net"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let (b, t, d, (hk, hv)) = (self.batch, self.tokens, self.width, self.heads);
        // Keys and queries of unit length, as models have them.
        let unit = 1.0 / (d as f64).sqrt();
        let q = scene
            .input(&operand(F32, [b, t, hk, d]).via(self.view))
            .normals(unit)?;
        let k = scene
            .input(&operand(F32, [b, t, hk, d]).via(self.view))
            .normals(unit)?;
        let v = scene
            .input(&operand(F32, [b, t, hv, d]).via(self.view))
            .normals(1.0)?;
        let g = scene
            .input(&operand(
                F32,
                [b, t, hv, if self.wide_decay { d } else { 1 }],
            ))
            .uniforms(-1.0, 0.0)?;
        let beta = scene
            .input(&operand(F32, [b, t, hv]).via(self.beta_view))
            .uniforms(0.0, 1.0)?;
        let state = scene.state(&operand(F32, [b, hv, d, d])).normals(0.5)?;
        let results = scene.push(
            GatedDeltaNet {
                snapshots: self.snapshots,
            },
            &[&q, &k, &v, &g, &beta, &state],
        )?;
        let answer = || {
            oracle::gated_delta_net(&DeltaNetInputs {
                q: &q.floats(),
                k: &k.floats(),
                v: &v.floats(),
                g: &g.floats(),
                beta: &beta.floats(),
                state: &state.floats(),
                n_snapshots: self.snapshots,
            })
        };
        let tolerance = Tolerance::of("gated_delta_net", F32);
        scene.expect(results[0], tolerance.clone(), || answer().out)?;
        // What nobody writes is NaN in the oracle and poison in the output, which is NaN.
        scene.expect(results[1], tolerance, || answer().snapshots)
    }
}

fn delta_rows() -> Vec<DeltaNet> {
    let net = |tokens, heads, width, snapshots| DeltaNet {
        batch: 1,
        tokens,
        heads,
        width,
        wide_decay: false,
        snapshots,
        view: View::Plain,
        beta_view: View::Plain,
    };
    let mut rows = vec![
        net(0, (1, 1), 4, 2),
        net(1, (1, 1), 1, 1),
        net(1, (2, 4), 64, 1),
        net(3, (2, 2), 7, 3),
        net(3, (1, 3), 16, 5),
        net(5, (2, 6), 33, 2),
        net(2, (1, 2), 128, 1),
        net(10, (1, 1), 200, 2),
        net(2, (1, 1), 300, 1),
        net(33, (1, 2), 32, 4),
        net(70, (2, 4), 16, 1),
        DeltaNet {
            batch: 3,
            ..net(4, (2, 4), 16, 2)
        },
        DeltaNet {
            batch: 0,
            ..net(4, (2, 4), 16, 2)
        },
        DeltaNet {
            beta_view: View::Transposed,
            batch: 2,
            ..net(4, (2, 4), 16, 2)
        },
        DeltaNet {
            beta_view: View::Columns,
            ..net(4, (2, 4), 16, 2)
        },
    ];
    rows.extend(View::ROWS_WHOLE.map(|view| DeltaNet {
        view,
        batch: 2,
        ..net(4, (2, 4), 16, 6)
    }));
    rows.extend([1, 7, 16, 33, 65, 130].map(|width| DeltaNet {
        wide_decay: true,
        batch: 2,
        ..net(5, (1, 2), width, 2)
    }));
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    match stem {
        "ssm_conv" => {
            let any = (
                0usize..4,
                0usize..40,
                1usize..6,
                0usize..9,
                one_of(View::ROWS_WHOLE),
            );
            let any = any.prop_map(|(sequences, channels, taps, tokens, view)| Convolved {
                sequences,
                channels,
                taps,
                tokens,
                view,
            });
            Some(Family::new(convolved_rows(), any))
        }
        "gated_delta_net" => {
            let sizes = (
                0usize..3,
                0usize..9,
                one_of([(1, 1), (2, 2), (1, 3), (2, 4)]),
                one_of([1usize, 4, 7, 16, 33]),
            );
            let views = (one_of(View::ROWS_WHOLE), one_of(View::ALL));
            let any = (sizes, proptest::bool::ANY, 1usize..5, views).prop_map(
                |((batch, tokens, heads, width), wide_decay, snapshots, (view, beta_view))| {
                    DeltaNet {
                        batch,
                        tokens,
                        heads,
                        width,
                        wide_decay,
                        snapshots,
                        view,
                        beta_view,
                    }
                },
            );
            Some(Family::new(delta_rows(), any))
        }
        _ => None,
    }
}
