//! cache: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{CacheWrite};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn set_rows(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn store(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn cache_write(_: &CacheWrite, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
