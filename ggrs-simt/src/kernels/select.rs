//! select: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Argsort, RouteExperts, TopK};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn top_k(_: &TopK, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn argsort(_: &Argsort, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn argmax(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn route_experts(_: &RouteExperts, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
