//! Products with many activations on matrix units: to be written.

use ggrs_core::error::{Refusal, RefusalReason};
use ggrs_core::ops::{GluKind, Window};

use crate::kernel::{Choice, ModuleKey, Request};

fn refusal() -> Refusal {
    Refusal {
        kernel: "gemm",
        reason: RefusalReason::Feature {
            needs: "matrix units",
        },
    }
}

/// A product of all activations with the same weights.
pub(crate) fn dense(_: &Request<'_>, _: Option<GluKind>) -> Result<Choice, Refusal> {
    Err(refusal())
}

/// A product with experts chosen per token.
pub(crate) fn grouped(
    _: &Request<'_>,
    _: Option<Window>,
    _: Option<GluKind>,
) -> Result<Choice, Refusal> {
    Err(refusal())
}

/// Their modules.
pub(crate) fn modules() -> Vec<ModuleKey> {
    Vec::new()
}
