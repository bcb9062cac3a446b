//! Products with experts chosen per token, alone or as gate and up of a gated linear unit.

use ggrs_core::Unsupported;
use ggrs_core::ops::{MatMulId, MatMulIdGlu, Op};

use super::gemm;
use super::product::{self, Form};
use crate::kernel::{Choice, ModuleKey, Request};

/// `out[t, j] = weights[ids[t, j]] @ x[t, min(j, n - 1)]`.
pub(crate) fn matmul_id(op: &MatMulId, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let many = gemm::grouped(request, op.window, None);
    product::choose(many, Form::by_id(op.window, None, request), request)
}

/// The same for gate and up, joined.
pub(crate) fn matmul_id_glu(
    op: &MatMulIdGlu,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    let many = gemm::grouped(request, op.window, Some(op.kind));
    let form = Form::by_id(op.window, Some(op.kind), request);
    product::choose(many, form, request)
}

/// The kernel by matrix units for either, if they take it: the one that writes BF16 as well.
pub(crate) fn by_matrix_units(request: &Request<'_>) -> Option<Choice> {
    let (window, glu) = match request.operands.op {
        Op::MatMulId(op) => (op.window, None),
        Op::MatMulIdGlu(op) => (op.window, Some(op.kind)),
        _ => return None,
    };
    gemm::grouped(request, window, glu).ok()
}

/// The modules are those of all products.
pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
