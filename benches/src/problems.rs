//! Problems of the sizes that models have. Each comes twice: large for timing, small for checking the same kernel.

use ggrs_core::ops::{
    Attention, Gating, GluKind, MatMul, MatMulId, MatMulIdGlu, RmsNorm, RouteExperts, Visibility,
};
use ggrs_core::{DType, GraphError, Real};
use ggrs_tests::oracle;
use ggrs_tests::problem::{Problem, Scene, Tolerance, operand};

const F32: DType = DType::F32;

/// `x [n, k] @ weights [m, k]^T`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// Type of the weights.
    pub(crate) dtype: DType,
    /// Rows of weights.
    pub(crate) m: usize,
    /// Inner size.
    pub(crate) k: usize,
    /// Tokens.
    pub(crate) n: usize,
}

impl Problem for Linear {
    fn stem(&self) -> &'static str {
        "matmul"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let weights = scene
            .weight(&operand(self.dtype, [self.m, self.k]))
            .normals(0.05)?;
        let x = scene.input(&operand(F32, [self.n, self.k])).normals(1.0)?;
        let y = scene.apply(MatMul, &[&weights, &x])?;
        scene.expect(y, Tolerance::of("matmul", self.dtype), || {
            oracle::matmul(&weights.floats(), &x.floats())
        })
    }
}

/// An expert bank: one product, or the gated pair.
#[derive(Clone, Debug)]
pub(crate) struct Experts {
    /// Type of the weights.
    pub(crate) dtype: DType,
    /// Experts.
    pub(crate) n_experts: usize,
    /// Experts per token.
    pub(crate) n_used: usize,
    /// Rows of an expert's weights.
    pub(crate) m: usize,
    /// Inner size.
    pub(crate) k: usize,
    /// Tokens.
    pub(crate) n: usize,
    /// Gate and up with SwiGLU instead of one product.
    pub(crate) gated: bool,
}

impl Problem for Experts {
    fn stem(&self) -> &'static str {
        if self.gated {
            "matmul_id_glu"
        } else {
            "matmul_id"
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let bank = operand(self.dtype, [self.n_experts, self.m, self.k]);
        let weights = scene.weight(&bank).normals(0.05)?;
        let x = scene
            .input(&operand(F32, [self.n, 1, self.k]))
            .normals(1.0)?;
        let ids = ggrs_tests::random::RandomInputs::new(7).distinct_ids(
            self.n,
            self.n_used,
            self.n_experts,
        );
        let ids = scene
            .input(&operand(DType::I32, [self.n, self.n_used]))
            .ids(&ids)?;
        let tolerance = Tolerance::of(self.stem(), self.dtype);
        if !self.gated {
            let y = scene.apply(MatMulId::default(), &[&weights, &x, &ids])?;
            return scene.expect(y, tolerance, || {
                self.answer(&weights.floats(), None, &x.floats(), &ids.ints())
            });
        }
        let up = scene.weight(&bank).normals(0.05)?;
        let op = MatMulIdGlu {
            window: None,
            kind: GluKind::Swiglu,
        };
        let y = scene.apply(op, &[&weights, &up, &x, &ids])?;
        scene.expect(y, tolerance, || {
            let up = up.floats();
            self.answer(&weights.floats(), Some(&up), &x.floats(), &ids.ints())
        })
    }
}

impl Experts {
    /// What the oracle says of these weights.
    pub(crate) fn answer(
        &self,
        weights: &oracle::Array,
        up: Option<&oracle::Array>,
        x: &oracle::Array,
        ids: &oracle::IntArray,
    ) -> oracle::Array {
        let product = oracle::matmul_id(weights, x, ids);
        match up {
            Some(up) => {
                let up = oracle::matmul_id(up, x, ids);
                oracle::glu_split(oracle::GluKind::Swiglu, &product, &up)
            }
            None => product,
        }
    }
}

/// Attention of `n` tokens at the end of `kv` positions of one slot in a paged cache.
#[derive(Clone, Debug)]
pub(crate) struct Attend {
    /// Type of the cache.
    pub(crate) dtype: DType,
    /// Tokens.
    pub(crate) n: usize,
    /// Positions in the cache.
    pub(crate) kv: usize,
    /// Query heads.
    pub(crate) n_heads: usize,
    /// Key heads.
    pub(crate) n_kv_heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

/// Cells per block of the page table.
pub(crate) const BLOCK: usize = 64;

impl Problem for Attend {
    fn stem(&self) -> &'static str {
        "attention"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let (n_blocks, d) = (self.n_blocks(), self.width);
        let cache = operand(self.dtype, [n_blocks * BLOCK, self.n_kv_heads, d]);
        let ints = |shape: &[usize], f: &dyn Fn(usize) -> usize| {
            oracle::IntArray::from_fn(shape, |i| i.last().map_or(0, |i| f(*i) as i64))
        };
        let q = scene
            .input(&operand(F32, [self.n, self.n_heads, d]))
            .normals(1.0)?;
        let k = scene.state(&cache).normals(1.0)?;
        let v = scene.state(&cache).normals(1.0)?;
        let first = self.kv - self.n;
        let tokens = operand(DType::I32, [self.n]);
        let positions = scene.input(&tokens).ids(&ints(&[self.n], &|t| first + t))?;
        let slots = scene.input(&tokens).ids(&ints(&[self.n], &|_| 0))?;
        let table = ints(&[1, n_blocks], &|b| n_blocks - 1 - b);
        let table = scene
            .input(&operand(DType::I32, [1, n_blocks]))
            .ids(&table)?;
        let op = Attention {
            scale: Real(self.scale()),
            softcap: None,
            visibility: Visibility::Paged {
                block: BLOCK,
                window: None,
            },
            sinks: false,
        };
        let y = scene.apply(op, &[&q, &k, &v, &positions, &slots, &table])?;
        scene.expect(y, Tolerance::of("attention", self.dtype), || {
            self.answer(
                (&q.floats(), &k.floats(), &v.floats()),
                (&positions.ints(), &slots.ints()),
                &table.ints(),
            )
        })
    }
}

impl Attend {
    /// Blocks of the page table.
    pub(crate) const fn n_blocks(&self) -> usize {
        self.kv.div_ceil(BLOCK)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// What the oracle says of these tokens.
    pub(crate) fn answer(
        &self,
        (q, k, v): (&oracle::Array, &oracle::Array, &oracle::Array),
        (positions, slots): (&oracle::IntArray, &oracle::IntArray),
        table: &oracle::IntArray,
    ) -> oracle::Array {
        let kv = oracle::PagedKv {
            k,
            v,
            pages: oracle::Pages {
                table,
                block_cells: BLOCK,
            },
            slots,
            positions,
            window: None,
        };
        let params = oracle::AttentionParams {
            scale: f64::from(self.scale()),
            softcap: None,
            sinks: None,
        };
        oracle::attention_paged(q, &kv, &params)
    }
}

/// `rms_norm(x [n, width]) * weight`.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// Tokens.
    pub(crate) n: usize,
    /// Width of a row.
    pub(crate) width: usize,
}

impl Problem for Norm {
    fn stem(&self) -> &'static str {
        "rms_norm"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene
            .input(&operand(F32, [self.n, self.width]))
            .normals(1.0)?;
        let w = scene.weight(&operand(F32, [self.width])).normals(1.0)?;
        let y = scene.apply(
            RmsNorm {
                eps: Real(1e-6),
                weighted: true,
            },
            &[&x, &w],
        )?;
        scene.expect(y, Tolerance::of("rms_norm", F32), || {
            oracle::binary(
                oracle::BinaryKind::Mul,
                &oracle::rms_norm(&x.floats(), 1e-6),
                &w.floats(),
            )
        })
    }
}

/// The router of `n` tokens over `n_experts`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Tokens.
    pub(crate) n: usize,
    /// Experts.
    pub(crate) n_experts: usize,
    /// Experts per token.
    pub(crate) n_used: usize,
}

impl Problem for Route {
    fn stem(&self) -> &'static str {
        "route_experts"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let logits = scene
            .input(&operand(F32, [self.n, self.n_experts]))
            .normals(1.0)?;
        let op = RouteExperts {
            n_used: self.n_used,
            gating: Gating::Softmax,
            normalise: true,
            scale: Real(1.0),
        };
        let outs = scene.push(op, &[&logits])?;
        match outs.first() {
            Some(weights) => scene.expect(*weights, Tolerance::of("route_experts", F32), || {
                oracle::route_experts(
                    &logits.floats(),
                    oracle::Gating::Softmax,
                    self.n_used,
                    true,
                    1.0,
                )
                .0
            }),
            None => Ok(()),
        }
    }
}
