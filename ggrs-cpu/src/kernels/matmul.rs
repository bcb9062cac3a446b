//! Not written yet.
use ggrs_core::{Unsupported, ops::*};
use crate::kernel::{Choice, Request};
pub(crate) fn matmul(_: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
pub(crate) fn matmul_glu(_: &MatMulGlu, _: &Request<'_>) -> Result<Choice, Unsupported> { Err(Unsupported { candidates: Vec::new() }) }
