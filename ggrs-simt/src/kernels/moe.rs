//! Products with experts chosen per token, alone or as gate and up of a gated linear unit.

use ggrs_core::Unsupported;
use ggrs_core::ops::{MatMulId, MatMulIdGlu};

use super::product::{Form, generic};
use crate::kernel::{Choice, ModuleKey, Request};

/// `out[t, j] = weights[ids[t, j]] @ x[t, min(j, n - 1)]`.
pub(crate) fn matmul_id(op: &MatMulId, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let form = Form::by_id(op.window, None, request);
    Ok(generic::product(form, request))
}

/// The same for gate and up, joined.
pub(crate) fn matmul_id_glu(
    op: &MatMulIdGlu,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    let form = Form::by_id(op.window, Some(op.kind), request);
    Ok(generic::product(form, request))
}

/// The modules are those of all products.
pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
