//! Matrix products of weights with activations, alone or as gate and up of a gated linear unit.

use ggrs_core::Unsupported;
use ggrs_core::ops::{MatMulGlu, Op};

use super::product::{self, Form};
use super::{fused, gemm};
use crate::kernel::{Choice, ModuleKey, Request};

/// `x @ weights^T`.
pub(crate) fn matmul(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let many = gemm::dense(request, None);
    product::choose(many, Form::dense(None), request)
}

/// `activation(x @ gate^T) * (x @ up^T)`.
pub(crate) fn matmul_glu(op: &MatMulGlu, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let many = gemm::dense(request, Some(op.kind));
    product::choose(many, Form::dense(Some(op.kind)), request)
}

/// The kernel by matrix units for a product with one matrix, if they take it: a launch that converts the activations
/// comes first.
pub(crate) fn by_matrix_units(request: &Request<'_>) -> Option<Choice> {
    match request.operands.op {
        Op::MatMul(_) => gemm::dense(request, None).ok(),
        _ => None,
    }
}

/// Modules of all products.
pub(crate) fn modules() -> Vec<ModuleKey> {
    let mut all = product::modules();
    all.extend(gemm::modules());
    all.extend(fused::modules());
    all
}
