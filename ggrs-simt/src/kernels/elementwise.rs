//! elementwise: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Binary, Clamp, Scale, Unary};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn binary(_: &Binary, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn scale(_: &Scale, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn clamp(_: &Clamp, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn unary(_: &Unary, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
