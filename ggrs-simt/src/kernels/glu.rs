//! glu: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Glu};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn glu(_: &Glu, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
