//! Not written yet.
use ggrs_core::{Unsupported, ops::*};
use crate::kernel::{Choice, Request};
pub(crate) fn binary(_: &Binary, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn scale(_: &Scale, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn clamp(_: &Clamp, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn unary(_: &Unary, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
