//! Cases of kernel benchmarks: a small problem that is checked and a large one, of the same kind, that is timed.

use ggrs_core::DType;
use ggrs_tests::problem::Problem;

use crate::problems::{Attend, Experts, Linear, Norm, Route};
use crate::sampled::Sampled;

/// One row of a report.
pub struct Case {
    /// `op/format/shape`.
    pub name: String,
    /// What is checked against the oracle.
    pub small: Box<dyn Problem>,
    /// What is timed, and some of it checked.
    pub large: Box<dyn Sampled>,
}

impl Case {
    fn new(name: String, small: impl Problem + 'static, large: impl Sampled + 'static) -> Self {
        Self {
            name,
            small: Box::new(small),
            large: Box::new(large),
        }
    }

    /// A dense product of `m` rows of `k` weights and `n` activations.
    pub fn linear(dtype: DType, m: usize, k: usize, n: usize) -> Self {
        let name = format!("matmul/{}/{m}x{k},n{n}", format(dtype));
        let linear = |m, k, n| Linear { dtype, m, k, n };
        Self::new(name, linear(96, 512, n.min(40)), linear(m, k, n))
    }

    /// A product with 8 of `n_experts` experts for each of `n` activations, with the gate's product or alone.
    pub fn experts(
        dtype: DType,
        n_experts: usize,
        (m, k, n): (usize, usize, usize),
        gated: bool,
    ) -> Self {
        let op = if gated { "matmul_id_glu" } else { "matmul_id" };
        let name = format!("{op}/{}/e{n_experts}x8,{m}x{k},n{n}", format(dtype));
        let bank = |n_experts, n_used, (m, k, n)| Experts {
            dtype,
            n_experts,
            n_used,
            m,
            k,
            n,
            gated,
        };
        let small = bank(8, 2, (64, 256, n.min(40)));
        Self::new(name, small, bank(n_experts, 8, (m, k, n)))
    }

    /// Attention of `n` tokens over `kv` keys, 32 heads to 4.
    pub fn attention(dtype: DType, n: usize, kv: usize) -> Self {
        let name = format!("attention/{}/h32x4,d128,n{n},kv{kv}", format(dtype));
        let attend = |n, kv| Attend {
            dtype,
            n,
            kv,
            n_heads: 32,
            n_kv_heads: 4,
            width: 128,
        };
        Self::new(name, attend(n.min(20), 100), attend(n, kv))
    }

    /// The norm of `n` tokens.
    pub fn norm(n: usize) -> Self {
        let norm = |n| Norm { n, width: 2048 };
        let name = format!("rms_norm/f32/n{n}x2048");
        Self::new(name, norm(n.min(5)), norm(n))
    }

    /// The choice of 8 of 128 experts for `n` tokens.
    pub fn route(n: usize) -> Self {
        let route = |n| Route {
            n,
            n_experts: 128,
            n_used: 8,
        };
        let name = format!("route_experts/f32/n{n},e128x8");
        Self::new(name, route(n.min(5)), route(n))
    }
}

fn format(dtype: DType) -> String {
    dtype.name().to_lowercase()
}
