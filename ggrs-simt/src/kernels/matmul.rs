//! Matrix products of weights with activations, alone or as gate and up of a gated linear unit.

use ggrs_core::Unsupported;
use ggrs_core::ops::MatMulGlu;

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

/// Modules of all products.
pub(crate) fn modules() -> Vec<ModuleKey> {
    let mut all = product::modules();
    all.extend(gemm::modules());
    all.extend(fused::modules());
    all
}
