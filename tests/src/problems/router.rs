//! Problems of the router of a mixture of experts.

use ggrs_core::error::Fault;
use ggrs_core::ops::{Gating, RouteExperts};
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::Strategy;

use super::strategies::one_of;
use super::{Family, kinds};
use crate::oracle::{self, Array};
use crate::problem::{Problem, Scene, Tolerance, View, operand};

/// What logits look like.
#[derive(Clone, Copy, Debug)]
enum Logits {
    Normal,
    /// Few different values: the lower id must win.
    Ties,
    /// All so low that their sigmoids hardly sum to anything.
    Low,
}

#[derive(Clone, Debug)]
struct Routed {
    tokens: usize,
    experts: usize,
    n_used: usize,
    gating: Gating,
    normalise: bool,
    scale: f32,
    view: View,
    logits: Logits,
}

impl Problem for Routed {
    fn stem(&self) -> &'static str {
        "route_experts"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let shape = [self.tokens, self.experts];
        let values = match self.logits {
            Logits::Normal => scene.random.normals(&shape, 2.0),
            Logits::Ties => scene.random.ids(&shape, 3).map(|id| id as f64 - 1.0),
            Logits::Low => scene.random.uniforms(&shape, -24.0, -20.0),
        };
        let logits = scene
            .input(&operand(DType::F32, shape).via(self.view))
            .values(&values)?;
        let op = RouteExperts {
            n_used: self.n_used,
            gating: self.gating,
            normalise: self.normalise,
            scale: Real(self.scale),
        };
        let results = scene.push(op, &[&logits])?;
        let gating = kinds::gating(self.gating);
        let route = || {
            oracle::route_experts(
                &logits.floats(),
                gating,
                self.n_used,
                self.normalise,
                self.scale.into(),
            )
        };
        scene.expect(
            results[0],
            Tolerance::of("route_experts", DType::F32),
            || route().0,
        )?;
        scene.expect_ints(results[1], || route().1)?;
        if self.tokens > 0 && !matches!(self.view, View::Repeated(_)) {
            let row = self.tokens / 2;
            let bad = Array::from_fn(&shape, |i| {
                if i[0] == row && i[1] + 1 == self.experts {
                    f64::NAN
                } else {
                    values.at(i)
                }
            });
            scene.refuse_floats(
                &logits,
                &bad,
                Fault::NotANumber {
                    role: "router logits",
                    row,
                },
            );
        }
        Ok(())
    }
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let mut rows = Vec::new();
    for gating in [Gating::Softmax, Gating::Sigmoid] {
        for (normalise, scale) in [(false, 1.0), (true, 1.0), (true, 2.5)] {
            let routed = |tokens, experts, n_used| Routed {
                tokens,
                experts,
                n_used,
                gating,
                normalise,
                scale,
                view: View::Plain,
                logits: Logits::Normal,
            };
            let sizes = [
                (0, 8, 2),
                (1, 1, 1),
                (1, 8, 8),
                (7, 33, 3),
                (5, 128, 8),
                (3, 257, 40),
                (2, 1100, 5),
            ];
            rows.extend(sizes.map(|(tokens, experts, n_used)| routed(tokens, experts, n_used)));
            rows.extend(View::ROWS_WHOLE.map(|view| Routed {
                view,
                ..routed(5, 16, 4)
            }));
            rows.push(Routed {
                logits: Logits::Ties,
                ..routed(9, 33, 6)
            });
            rows.push(Routed {
                logits: Logits::Low,
                ..routed(5, 16, 4)
            });
        }
    }
    let sizes = (0usize..9, 1usize..40, 1usize..9);
    let modes = (
        one_of([Gating::Softmax, Gating::Sigmoid]),
        proptest::bool::ANY,
        0.5f32..3.0,
    );
    let any = (
        sizes,
        modes,
        one_of(View::ROWS_WHOLE),
        one_of([Logits::Normal, Logits::Ties]),
    )
        .prop_map(
            |((tokens, experts, n_used), (gating, normalise, scale), view, logits)| {
                let n_used = n_used.min(experts);
                Routed {
                    tokens,
                    experts,
                    n_used,
                    gating,
                    normalise,
                    scale,
                    view,
                    logits,
                }
            },
        );
    (stem == "route_experts").then(|| Family::new(rows, any))
}
