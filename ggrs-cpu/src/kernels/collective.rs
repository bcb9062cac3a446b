//! Collectives of one member, which are copies. More members are a meta device's business.

use ggrs_core::Unsupported;
use ggrs_core::error::RefusalReason;
use ggrs_core::ops::{Collective, OpSpec};

use super::movement::Copy;
use crate::kernel::{Choice, Request, refuse};
use crate::view::ScratchLayout;

/// A copy, or a refusal.
pub(crate) fn collective(op: &Collective, _: &Request<'_>) -> Result<Choice, Unsupported> {
    if op.members != 1 {
        return Err(refuse("copy", RefusalReason::Members { n: op.members }));
    }
    Ok(Choice::new(
        format!("{}/copy", op.stem()),
        "one member: a copy",
        ScratchLayout::new(),
        |args| Copy {
            x: args.input(0),
            out: args.output(0),
        },
    ))
}
