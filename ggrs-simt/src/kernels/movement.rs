//! movement: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Concat, GetRows};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn contiguous(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn cast(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn concat(_: &Concat, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn get_rows(_: &GetRows, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
