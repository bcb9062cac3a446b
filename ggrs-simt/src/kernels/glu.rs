//! Gated linear units: activation(gate) * up.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Glu, GluInput, OpSpec};

use super::axes::bytes_of_float;
use super::elementwise::Map;
use crate::kernel::{Choice, ModuleKey, Request};
use crate::params::View;

/// A gated linear unit of two tensors, or of the two halves of one.
pub(crate) fn glu(op: &Glu, _: &Request<'_>) -> Result<Choice, Unsupported> {
    let map = Map::gated(op.kind as i32);
    let gate_first = match op.input {
        GluInput::Split => return Ok(map.of_two(op.stem())),
        GluInput::GateUp => true,
        GluInput::UpGate => false,
    };
    let name = format!("{}/halves", op.stem());
    Ok(Choice::new(name, "both halves of a row", move |args| {
        let x = args.input(0);
        let (first, second) = (columns(&x, 0), columns(&x, x.width() / 2));
        let (gate, up) = if gate_first {
            (first, second)
        } else {
            (second, first)
        };
        map.launches(&gate, Some(&up), &args.output(0))
    }))
}

/// Half of the columns, from `start` on.
fn columns(x: &View, start: u32) -> View {
    let mut half = *x;
    half.size[4] /= 2;
    half.data = half
        .data
        .wrapping_add(u64::from(start) * bytes_of_float(x.dtype));
    half
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    super::elementwise::modules()
}
