//! recurrent: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{GatedDeltaNet};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn ssm_conv(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn gated_delta_net(_: &GatedDeltaNet, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
