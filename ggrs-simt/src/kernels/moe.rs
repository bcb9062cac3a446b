//! moe: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{MatMulId, MatMulIdGlu};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn matmul_id(_: &MatMulId, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn matmul_id_glu(_: &MatMulIdGlu, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
