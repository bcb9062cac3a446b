//! rope: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Rope};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn rope(_: &Rope, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
