//! Problems of dense attention, with and without a mask.

use ggrs_core::ops::{Attention, Visibility};
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::strategies::{FLOATS, KV, one_of};
use super::{Family, attention_paged};
use crate::oracle::{self, Array, AttentionParams};
use crate::problem::{Operand, Problem, Scene, Tensor, Tolerance, View, operand};

const F32: DType = DType::F32;

/// Which axes a mask has, of batch and heads; tokens and keys it always has.
#[derive(Clone, Copy, Debug)]
struct Mask {
    dtype: DType,
    per_batch: bool,
    per_head: bool,
    /// Hides all keys of some queries.
    hides_rows: bool,
    view: View,
}

#[derive(Clone, Debug)]
struct DenseAttention {
    batch: usize,
    tokens: usize,
    keys: usize,
    /// Query heads, key heads.
    heads: (usize, usize),
    /// Of keys, of values.
    widths: (usize, usize),
    q: (DType, View),
    k: (DType, View),
    v: (DType, View),
    mask: Option<Mask>,
    softcap: Option<f32>,
    sinks: bool,
}

impl DenseAttention {
    /// Grouped heads in F32, nothing else.
    fn plain() -> Self {
        Self {
            batch: 1,
            tokens: 3,
            keys: 9,
            heads: (4, 2),
            widths: (64, 64),
            q: (F32, View::Plain),
            k: (F32, View::Plain),
            v: (F32, View::Plain),
            mask: None,
            softcap: None,
            sinks: false,
        }
    }

    fn mask(&self, scene: &mut Scene, mask: Mask) -> Result<Tensor, GraphError> {
        let axis = |there, n| if there { n } else { 1 };
        let (b, h) = (
            axis(mask.per_batch, self.batch),
            axis(mask.per_head, self.heads.0),
        );
        let shape = [b, h, self.tokens, self.keys];
        let bias = scene.random.normals(&shape, 1.0);
        let hidden = scene.random.ids(&shape, 3);
        let values = Array::from_fn(&shape, |i| {
            let is_hidden = hidden.at(i) == 0 || mask.hides_rows && i[2] % 2 == 1;
            if is_hidden {
                f64::NEG_INFINITY
            } else {
                bias.at(i)
            }
        });
        scene
            .input(&operand(mask.dtype, shape).via(mask.view))
            .values(&values)
    }
}

impl Problem for DenseAttention {
    fn stem(&self) -> &'static str {
        "attention"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let scale = 1.0 / (self.widths.0 as f32).sqrt();
        let shaped = |(dtype, view), n, heads, width| -> Operand {
            operand(dtype, [self.batch, n, heads, width]).via(view)
        };
        let q = scene
            .input(&shaped(self.q, self.tokens, self.heads.0, self.widths.0))
            .normals(1.0)?;
        let k = scene
            .input(&shaped(self.k, self.keys, self.heads.1, self.widths.0))
            .normals(1.0)?;
        let v = scene
            .input(&shaped(self.v, self.keys, self.heads.1, self.widths.1))
            .normals(1.0)?;
        let mask = self.mask.map(|mask| self.mask(scene, mask)).transpose()?;
        let sinks = self
            .sinks
            .then(|| scene.input(&operand(F32, [self.heads.0])).normals(1.0))
            .transpose()?;
        let op = Attention {
            scale: Real(scale),
            softcap: self.softcap.map(Real),
            visibility: if mask.is_some() {
                Visibility::Mask
            } else {
                Visibility::Full
            },
            sinks: self.sinks,
        };
        let mut operands = vec![&q, &k, &v];
        operands.extend(&mask);
        operands.extend(&sinks);
        let y = scene.apply(op, &operands)?;
        let tolerance = Tolerance::Op {
            stem: "attention",
            dtypes: vec![self.k.0, self.v.0],
        };
        scene.expect(y, tolerance, || {
            if self.batch == 0 {
                return Array::filled(&[0, self.tokens, self.heads.0, self.widths.1], 0.0);
            }
            let sinks = sinks.as_ref().map(Tensor::floats);
            let params = AttentionParams {
                scale: scale.into(),
                softcap: self.softcap.map(f64::from),
                sinks: sinks.as_ref(),
            };
            let mask = mask.as_ref().map(Tensor::floats);
            oracle::attention(
                &q.floats(),
                &k.floats(),
                &v.floats(),
                mask.as_ref(),
                &params,
            )
        })
    }
}

fn rows() -> Vec<DenseAttention> {
    let plain = DenseAttention::plain;
    let mask = Mask {
        dtype: F32,
        per_batch: false,
        per_head: false,
        hides_rows: false,
        view: View::Plain,
    };
    let masked = |mask| DenseAttention {
        mask: Some(mask),
        batch: 2,
        ..plain()
    };
    let mut rows = vec![
        DenseAttention {
            tokens: 0,
            ..plain()
        },
        DenseAttention { keys: 0, ..plain() },
        DenseAttention {
            batch: 0,
            ..plain()
        },
        DenseAttention {
            tokens: 1,
            keys: 1,
            heads: (1, 1),
            widths: (1, 1),
            ..plain()
        },
        DenseAttention {
            tokens: 1,
            keys: 257,
            ..plain()
        },
        DenseAttention {
            tokens: 40,
            keys: 70,
            ..plain()
        },
        DenseAttention {
            batch: 3,
            heads: (6, 1),
            ..plain()
        },
        DenseAttention {
            widths: (7, 33),
            ..plain()
        },
        DenseAttention {
            widths: (192, 128),
            ..plain()
        },
        DenseAttention {
            softcap: Some(5.0),
            ..plain()
        },
        DenseAttention {
            sinks: true,
            ..plain()
        },
        masked(mask),
        masked(Mask {
            dtype: DType::F16,
            ..mask
        }),
        masked(Mask {
            per_batch: true,
            ..mask
        }),
        masked(Mask {
            per_head: true,
            dtype: DType::F16,
            ..mask
        }),
        masked(Mask {
            per_batch: true,
            per_head: true,
            hides_rows: true,
            ..mask
        }),
        masked(Mask {
            view: View::Columns,
            ..mask
        }),
        masked(Mask {
            view: View::Repeated(1),
            per_head: true,
            ..mask
        }),
        DenseAttention {
            sinks: true,
            softcap: Some(2.0),
            ..masked(Mask {
                hides_rows: true,
                ..mask
            })
        },
        DenseAttention {
            tokens: 33,
            keys: 70,
            ..masked(mask)
        },
    ];
    rows.extend([32, 80, 96, 128, 256, 512].map(|d| DenseAttention {
        widths: (d, d),
        ..plain()
    }));
    for dtype in KV {
        let kv = (dtype, View::Plain);
        rows.push(DenseAttention {
            k: kv,
            v: kv,
            ..plain()
        });
        rows.push(DenseAttention {
            k: kv,
            tokens: 17,
            keys: 40,
            ..masked(mask)
        });
        rows.push(DenseAttention {
            v: kv,
            widths: (64, 32),
            ..plain()
        });
        for view in [View::OuterReversed, View::Columns, View::Rows] {
            rows.push(DenseAttention {
                k: (dtype, view),
                v: (dtype, view),
                batch: 2,
                ..plain()
            });
        }
    }
    for view in View::ROWS_WHOLE {
        rows.push(DenseAttention {
            q: (F32, view),
            k: (DType::F16, view),
            batch: 2,
            ..plain()
        });
    }
    rows.extend(FLOATS.map(|dtype| DenseAttention {
        q: (dtype, View::Plain),
        ..plain()
    }));
    rows
}

fn any_dense() -> impl Strategy<Value = DenseAttention> {
    let views = || one_of([View::Plain, View::OuterReversed, View::Columns, View::Rows]);
    let mask = (any::<[bool; 3]>(), one_of([F32, DType::F16]), views()).prop_map(
        |([per_batch, per_head, hides_rows], dtype, view)| {
            Some(Mask {
                dtype,
                per_batch,
                per_head,
                hides_rows,
                view,
            })
        },
    );
    let mask = prop_oneof![Just(None), mask];
    let heads = one_of([(1, 1), (4, 1), (4, 2), (3, 3)]);
    let widths = one_of([(32, 32), (64, 32), (32, 96)]);
    let sizes = (0usize..3, 0usize..9, 0usize..40, heads, widths);
    let operands = (
        (one_of(FLOATS), views()),
        (one_of(KV), views()),
        (one_of(KV), views()),
    );
    let softcap = prop_oneof![Just(None), Just(Some(4.0))];
    (sizes, operands, mask, softcap, any::<bool>()).prop_map(
        |((batch, tokens, keys, heads, widths), (q, k, v), mask, softcap, sinks)| DenseAttention {
            batch,
            tokens,
            keys,
            heads,
            widths,
            q,
            k,
            v,
            mask,
            softcap,
            sinks,
        },
    )
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let dense = || Family::new(rows(), any_dense());
    (stem == "attention")
        .then(|| dense().and(attention_paged::rows(), attention_paged::any_paged()))
}
