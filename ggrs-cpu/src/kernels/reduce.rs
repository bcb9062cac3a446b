//! Not written yet.
use ggrs_core::{Unsupported, ops::*};
use crate::kernel::{Choice, Request};
pub(crate) fn reduce(_: &Reduce, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn cumsum(_: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
