//! Gated linear units: activation(gate) * up.

use ggrs_core::error::Fault;
use ggrs_core::ops::{Glu, GluInput, GluKind, OpSpec, UnaryKind};
use ggrs_core::{DType, Unsupported};

use super::row_map::row_map;
use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::math;
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

/// The activation of a gate as a function of its own.
pub(crate) const fn activation(kind: GluKind) -> UnaryKind {
    match kind {
        GluKind::Swiglu => UnaryKind::Silu,
        GluKind::Geglu => UnaryKind::Gelu,
        GluKind::GegluErf => UnaryKind::GeluErf,
        GluKind::GegluQuick => UnaryKind::GeluQuick,
        GluKind::Reglu => UnaryKind::Relu,
    }
}

/// A gated linear unit of two tensors, or of the two halves of one.
pub(crate) fn glu(op: &Glu, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (isa, kind) = (request.isa(), activation(op.kind));
    let gate_first = match op.input {
        GluInput::Split => {
            return Ok(row_map(op.stem(), request, move |[gate, up], out| {
                math::gated(isa, kind, gate, up, out)
            }));
        }
        GluInput::GateUp => true,
        GluInput::UpGate => false,
    };
    let width = request.output(0).shape.last().bound();
    let mut scratch = ScratchLayout::new();
    let converted = request.output(0).dtype != DType::F32;
    let space = scratch.table(request.n_threads(), if converted { 3 * width } else { 0 });
    Ok(Choice::new(
        format!("{}/halves", op.stem()),
        "both halves of a row",
        scratch,
        move |args| {
            let (x, start) = (args.input(0), if gate_first { 0 } else { width });
            Halves {
                gate: x.columns(start, width),
                up: x.columns(width - start, width),
                out: args.output(0),
                space: args.table(space),
                isa,
                kind,
            }
        },
    ))
}

/// Gate and up are columns of one tensor.
struct Halves {
    gate: In,
    up: In,
    out: Out,
    space: Table<f32>,
    isa: Isa,
    kind: UnaryKind,
}

impl Kernel for Halves {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let width = self.out.width();
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        if self.out.dtype() == DType::F32 {
            for row in rows.range() {
                math::gated(
                    self.isa,
                    self.kind,
                    self.gate.row(row),
                    self.up.row(row),
                    rows.row(row),
                );
            }
            return Ok(());
        }
        let space = part.own.row(&self.space);
        let (gate, space) = space.split_at_mut(width.min(space.len()));
        let (up, result) = space.split_at_mut(width.min(space.len()));
        for row in rows.range() {
            self.gate.read_row(row, gate);
            self.up.read_row(row, up);
            math::gated(self.isa, self.kind, gate, up, result);
            rows.write(row, result);
        }
        Ok(())
    }
}
