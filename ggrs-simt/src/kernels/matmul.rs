//! matmul: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{MatMulGlu};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn matmul(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn matmul_glu(_: &MatMulGlu, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
