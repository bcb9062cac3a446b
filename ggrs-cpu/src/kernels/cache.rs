//! Not written yet.
use ggrs_core::{Unsupported, ops::*};
use crate::kernel::{Choice, Request};
pub(crate) fn set_rows(_: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn store(_: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn cache_write(_: &CacheWrite, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
