//! Problems of products with experts chosen per token, plain and as a gated pair.

use ggrs_core::error::Fault;
use ggrs_core::ops::{GluKind, MatMulId, MatMulIdGlu, Window};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::matmul::{activations, inner_size};
use super::strategies::{WEIGHTS, one_of};
use super::{Family, kinds};
use crate::oracle::{self, IntArray};
use crate::problem::{Operand, Problem, Scene, Tensor, Tolerance, View, operand};

const F32: DType = DType::F32;

/// Who goes where.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// Different experts for each token.
    Distinct,
    /// Any, the same expert more than once too.
    Any,
    /// All tokens to the last expert.
    One,
}

#[derive(Clone, Debug)]
struct Experts {
    /// `[experts, m, k]`.
    weights: Operand,
    /// Which of the experts these are, if not all.
    window: Option<Window>,
    tokens: usize,
    n_used: usize,
    /// Has each chosen expert a row of its own?
    x_per_expert: bool,
    x: (DType, View),
    ids_view: View,
    choice: Choice,
    /// Second weights and the gate's activation.
    gated: Option<(DType, GluKind)>,
}

impl Experts {
    fn plain(dtype: DType, [experts, m, k]: [usize; 3], tokens: usize, n_used: usize) -> Self {
        Self {
            weights: operand(dtype, [experts, m, k]),
            window: None,
            tokens,
            n_used,
            x_per_expert: false,
            x: (F32, View::Plain),
            ids_view: View::Plain,
            choice: Choice::Distinct,
            gated: None,
        }
    }

    /// Experts that can be chosen.
    fn n_experts(&self) -> usize {
        self.window.map_or(self.weights.shape[0], |w| w.total)
    }

    fn ids(&self, scene: &mut Scene) -> Result<Tensor, GraphError> {
        let (n_experts, random) = (self.n_experts(), &mut scene.random);
        let ids = match self.choice {
            Choice::Distinct => random.distinct_ids(self.tokens, self.n_used, n_experts),
            Choice::Any => random.ids(&[self.tokens, self.n_used], n_experts),
            Choice::One => IntArray::filled(&[self.tokens, self.n_used], n_experts as i64 - 1),
        };
        scene
            .input(&operand(DType::I32, [self.tokens, self.n_used]).via(self.ids_view))
            .ids(&ids)
    }
}

impl Problem for Experts {
    fn stem(&self) -> &'static str {
        if self.gated.is_some() {
            "matmul_id_glu"
        } else {
            "matmul_id"
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let (n_experts, k) = (self.n_experts(), self.weights.from_end(0));
        let window = self.window;
        let rows = if self.x_per_expert { self.n_used } else { 1 };
        let weights = scene.weight(&self.weights).normals(0.3)?;
        let n_outputs = self.tokens * self.n_used * self.weights.from_end(1);
        let x = activations(
            scene,
            &operand(self.x.0, [self.tokens, rows, k]).via(self.x.1),
            n_outputs,
        )?;
        let ids = self.ids(scene)?;
        let product = |weights: &Tensor| {
            let held = weights.floats();
            let bank = window.map_or_else(
                || held.clone(),
                |w| oracle::zeros_around(&held, 0, w.first, w.total),
            );
            oracle::matmul_id(&bank, &x.floats(), &ids.ints())
        };
        if let Some((dtype, kind)) = self.gated {
            let up = scene
                .weight(&Operand {
                    dtype,
                    ..self.weights.clone()
                })
                .normals(0.3)?;
            let y = scene.apply(MatMulIdGlu { kind, window }, &[&weights, &up, &x, &ids])?;
            let tolerance = Tolerance::Op {
                stem: "matmul_id_glu",
                dtypes: vec![weights.dtype(), dtype],
            };
            scene.expect(y, tolerance, || {
                oracle::glu_split(kinds::glu(kind), &product(&weights), &product(&up))
            })?;
        } else {
            let y = scene.apply(MatMulId { window }, &[&weights, &x, &ids])?;
            scene.expect(y, Tolerance::of("matmul_id", weights.dtype()), || {
                product(&weights)
            })?;
        }
        for index in [-1, n_experts as i64] {
            let mut bad = ids.ints();
            let Some(id) = bad.data.first_mut() else {
                break;
            };
            *id = index;
            let fault = Fault::IndexOutOfRange {
                role: "expert ids",
                row: 0,
                index,
                bound: n_experts,
            };
            scene.refuse_ids(&ids, &bad, fault);
        }
        Ok(())
    }
}

fn rows() -> Vec<Experts> {
    let plain = Experts::plain;
    let mut rows = vec![
        plain(F32, [4, 17, 33], 0, 2),
        plain(F32, [1, 17, 33], 5, 1),
        plain(F32, [4, 16, 1], 3, 2),
        plain(F32, [4, 33, 257], 1, 4),
        plain(F32, [8, 17, 64], 40, 3),
        plain(F32, [3, 0, 32], 4, 2),
        plain(F32, [64, 18, 32], 9, 8),
        Experts {
            choice: Choice::One,
            ..plain(F32, [8, 17, 64], 40, 1)
        },
        Experts {
            choice: Choice::One,
            ..plain(DType::Q8_0, [8, 17, 64], 40, 2)
        },
        Experts {
            choice: Choice::Any,
            ..plain(F32, [4, 17, 64], 9, 6)
        },
        Experts {
            ids_view: View::Columns,
            ..plain(F32, [4, 17, 64], 9, 2)
        },
        Experts {
            ids_view: View::Rows,
            ..plain(F32, [4, 17, 64], 9, 2)
        },
        Experts {
            ids_view: View::Repeated(0),
            ..plain(F32, [4, 17, 64], 9, 2)
        },
    ];
    for x_per_expert in [false, true] {
        for view in View::ROWS_WHOLE {
            rows.push(Experts {
                x_per_expert,
                x: (F32, view),
                ..plain(F32, [4, 17, 33], 5, 2)
            });
        }
        for dtype in WEIGHTS {
            let k = inner_size(dtype, 1);
            for tokens in [1, 2, 40] {
                rows.push(Experts {
                    x_per_expert,
                    ..plain(dtype, [4, 33, k], tokens, 2)
                });
            }
            rows.push(Experts {
                x_per_expert,
                x: (DType::F16, View::Plain),
                ..plain(dtype, [4, 18, 2 * k], 5, 2)
            });
            rows.push(Experts {
                x_per_expert,
                choice: Choice::Any,
                ..plain(dtype, [3, 16, k], 70, 3)
            });
        }
    }
    for dtype in WEIGHTS {
        let k = inner_size(dtype, 1);
        // First, middle and last experts of eight, all and none.
        for (first, held) in [(0, 3), (2, 3), (5, 3), (0, 8), (4, 0)] {
            let window = Some(Window { first, total: 8 });
            for tokens in [2, 40] {
                rows.push(Experts {
                    window,
                    x_per_expert: tokens > 2,
                    ..plain(dtype, [held, 33, k], tokens, 3)
                });
            }
        }
    }
    for dtype in WEIGHTS {
        for view in [View::OuterReversed, View::Columns, View::Rows] {
            let mut sliced = plain(dtype, [4, 18, inner_size(dtype, 1)], 5, 2);
            sliced.weights.view = view;
            rows.push(sliced);
        }
    }
    rows
}

fn gated_rows() -> Vec<Experts> {
    let mut gated: Vec<Experts> = rows()
        .into_iter()
        .map(|row| Experts {
            gated: Some((row.weights.dtype, GluKind::Swiglu)),
            ..row
        })
        .collect();
    for kind in GluKind::ALL {
        gated.push(Experts {
            gated: Some((F32, kind)),
            ..Experts::plain(F32, [4, 33, 64], 5, 2)
        });
        gated.push(Experts {
            gated: Some((DType::Q6_K, kind)),
            ..Experts::plain(DType::Q4_K, [4, 33, 256], 3, 2)
        });
    }
    gated
}

fn any_experts(gated: bool) -> impl Strategy<Value = Experts> {
    let sizes = (1usize..9, 16usize..80, 1usize..3, 0usize..24, 1usize..5);
    let choices = one_of([Choice::Distinct, Choice::Any, Choice::One]);
    let x = (one_of([F32, F32, DType::F16]), one_of(View::ROWS_WHOLE));
    let second = (one_of(WEIGHTS), one_of(GluKind::ALL));
    let window = proptest::option::of((0usize..8, 0usize..8));
    let x = (proptest::bool::ANY, x, choices);
    (one_of(WEIGHTS), sizes, window, x, second).prop_map(
        move |(dtype, sizes, window, x, second)| {
            let (total, m, blocks, tokens, n_used) = sizes;
            let (x_per_expert, x, choice) = x;
            let (up, kind) = second;
            let k = if gated {
                inner_size(dtype, blocks).max(inner_size(up, 1))
            } else {
                inner_size(dtype, blocks)
            };
            let k = k.next_multiple_of(up.block_elems());
            let gated = gated.then_some((up, kind));
            // Some of the experts, or none of them.
            let held = |(first, n): (usize, usize)| {
                let first = first.min(total);
                (Window { first, total }, n.min(total - first))
            };
            let (window, held) = window.map(held).unzip();
            let experts = held.unwrap_or(total);
            Experts {
                window,
                x_per_expert,
                x,
                choice,
                gated,
                ..Experts::plain(dtype, [experts, m, k], tokens, n_used.min(total))
            }
        },
    )
}

pub(super) fn family(stem: &str) -> Option<Family> {
    match stem {
        "matmul_id" => Some(Family::new(rows(), any_experts(false))),
        "matmul_id_glu" => Some(Family::new(gated_rows(), any_experts(true))),
        _ => None,
    }
}
