//! attention: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Attention};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn attention(_: &Attention, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
