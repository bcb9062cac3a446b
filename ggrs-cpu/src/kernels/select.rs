//! Not written yet.
use ggrs_core::{Unsupported, ops::*};
use crate::kernel::{Choice, Request};
pub(crate) fn route_experts(_: &RouteExperts, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn top_k(_: &TopK, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn argsort(_: &Argsort, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn argmax(_: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
