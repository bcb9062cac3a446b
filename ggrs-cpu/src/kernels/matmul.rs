//! Matrix products of weights with activations, alone or as gate and up of a gated linear unit.

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::{MatMulGlu, UnaryKind};

use super::glu::activation;
use super::product::{Activations, BLOCK_COLUMNS, BLOCK_ROWS, Layout, Product, Workspace};
use crate::kernel::{Args, Choice, Kernel, Request};
use crate::math;
use crate::part::Part;
use crate::view::{Blocks, Out, ScratchLayout};

/// `x @ weights^T`.
pub(crate) fn matmul(request: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(choose::<1>("matmul", None, request))
}

/// `activation(x @ gate^T) * (x @ up^T)`.
pub(crate) fn matmul_glu(op: &MatMulGlu, request: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(choose::<2>(
        "matmul_glu",
        Some(activation(op.kind)),
        request,
    ))
}

fn choose<const N: usize>(family: &str, gate: Option<UnaryKind>, request: &Request<'_>) -> Choice {
    let mut scratch = ScratchLayout::new();
    let n_columns = Batches::new(
        &request.input(0).shape.sizes(),
        &request.input(N).shape.sizes(),
    )
    .n_columns;
    let layout = Layout::<N>::new(request, n_columns, &mut scratch);
    let (name, reason) = layout.name(family, request);
    let isa = request.isa();
    Choice::new(name, reason, scratch, move |args: &Args<'_>| {
        let batches = Batches::new(args.input(0).shape(), args.input(N).shape());
        MatMul {
            product: layout.build(args, isa),
            out: args.output(0),
            batches,
            gate,
        }
    })
}

/// Which matrix of the weights each batch of activations is multiplied by.
struct Batches {
    /// Activations in a batch.
    n_columns: usize,
    /// For each batch axis of the activations, outermost first: its size, and how the index maps to the weights' axis.
    axes: Vec<Axis>,
}

struct Axis {
    size: usize,
    /// Neighbouring batches that share a matrix.
    shared: usize,
    /// The weights' size.
    matrices: usize,
}

impl Batches {
    fn new(weights: &[usize], x: &[usize]) -> Self {
        let (Some((w_outer, _)), Some((x_outer, _))) =
            (weights.split_last_chunk::<2>(), x.split_last_chunk::<2>())
        else {
            return Self {
                n_columns: 0,
                axes: Vec::new(),
            };
        };
        // One matrix for all: the batches are just more activations.
        if w_outer.iter().all(|n| *n == 1) {
            let n_columns = x
                .split_last()
                .map_or(1, |(_, outer)| outer.iter().product());
            return Self {
                n_columns,
                axes: Vec::new(),
            };
        }
        let lead = x_outer.len().saturating_sub(w_outer.len());
        let axes = x_outer.iter().enumerate().map(|(axis, size)| {
            let matrices = axis
                .checked_sub(lead)
                .and_then(|a| w_outer.get(a))
                .copied()
                .unwrap_or(1)
                .max(1);
            Axis {
                size: *size,
                shared: (size / matrices).max(1),
                matrices,
            }
        });
        let n_columns = x.iter().rev().nth(1).copied().unwrap_or(1);
        Self {
            n_columns,
            axes: axes.collect(),
        }
    }

    /// The matrix of a batch.
    fn matrix(&self, batch: usize) -> usize {
        let (mut rest, mut matrix, mut step) = (batch, 0, 1);
        for axis in self.axes.iter().rev() {
            matrix += rest % axis.size / axis.shared * step;
            step *= axis.matrices;
            rest /= axis.size;
        }
        matrix
    }
}

/// A product, or two joined by a gate.
struct MatMul<const N: usize> {
    product: Product<N>,
    out: Out,
    batches: Batches,
    gate: Option<UnaryKind>,
}

impl<const N: usize> Kernel for MatMul<N> {
    fn phases(&self) -> usize {
        1 + usize::from(self.product.prepares())
    }

    fn is_serial(&self, phase: usize) -> bool {
        phase + 1 < self.phases() && self.product.prepares_little()
    }

    fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        if phase + 1 < self.phases() {
            self.product.prepare(part);
        } else {
            self.multiply(part);
        }
        Ok(())
    }
}

impl<const N: usize> MatMul<N> {
    fn multiply(&self, part: &mut Part<'_>) {
        let n_columns = self.batches.n_columns;
        let n_blocks = Blocks::count(&self.out, n_columns, BLOCK_ROWS);
        // Large enough to stream, small enough that no thread waits long for the last one.
        let grain = (n_blocks / (8 * part.work.n_threads())).clamp(1, 8);
        let mut workspace = self.product.workspace(&mut part.own);
        let mut chunks = part.work.chunks(n_blocks, grain);
        while let Some(mut share) = chunks.next() {
            let units = share.units();
            let mut blocks = share.blocks(&self.out, n_columns, BLOCK_ROWS);
            for start in (0..n_columns).step_by(BLOCK_COLUMNS) {
                let n = BLOCK_COLUMNS.min(n_columns - start);
                for unit in units.clone() {
                    let (batch, rows) = blocks.place(unit);
                    let n_rows = rows.len();
                    let x = Activations::Rows {
                        start: batch * n_columns + start,
                        n,
                    };
                    self.product
                        .block(self.batches.matrix(batch), rows, x, &mut workspace);
                    for i in 0..n {
                        let out = blocks.row(unit, start + i);
                        finish(self.product.isa, self.gate, &workspace, i * n_rows, out);
                    }
                }
            }
        }
    }
}

/// Writes what becomes of the values at `at` of the workspace's blocks: themselves, or gate and up joined.
pub(crate) fn finish<const N: usize>(
    isa: crate::isa::Isa,
    gate: Option<UnaryKind>,
    workspace: &Workspace<'_, N>,
    at: usize,
    out: &mut [f32],
) {
    let mut values = workspace
        .blocks
        .iter()
        .map(|b| b.get(at..at + out.len()).unwrap_or_default());
    match (gate, values.next(), values.next()) {
        (Some(kind), Some(gate), Some(up)) => math::gated(isa, kind, gate, up, out),
        (_, Some(values), _) if values.len() == out.len() => out.copy_from_slice(values),
        _ => (),
    }
}
