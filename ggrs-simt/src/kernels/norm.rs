//! norm: to be written.

use ggrs_core::Unsupported;
use ggrs_core::ops::{AddRmsNorm, L2Norm, LayerNorm, RmsNorm};

use crate::kernel::{Choice, ModuleKey, Request};

pub(crate) fn rms_norm(_: &RmsNorm, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn add_rms_norm(_: &AddRmsNorm, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn layer_norm(_: &LayerNorm, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn l2_norm(_: &L2Norm, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Err(Unsupported { candidates: Vec::new() })
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
