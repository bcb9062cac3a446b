//! What all matrix products share: banks of weights, activations as the weights want them, and a block of the product.
//!
//! A *bank* is one weight tensor: matrices `[m, k]` one behind the other. A *block* is 32 rows of a matrix (two tiles)
//! times up to 128 activations, computed into memory of the thread's own; what becomes of it is the caller's business.

use std::ops::Range;

use ggrs_core::{DType, TensorDesc};

use crate::gemm::{self, Columns, Inputs, Output, Routed};
use crate::isa::Isa;
use crate::kernel::{Args, Request};
use crate::math;
use crate::pack::{self, ActivationGroup, GROUP_ELEMS, PackedMatrix, QuantizedRows, TILE_ROWS};
use crate::part::Part;
use crate::view::{In, ScratchLayout, Slot, Table};

/// Rows of weights in a block: what the kernels multiply at once.
pub(crate) const BLOCK_ROWS: usize = 2 * TILE_ROWS;

/// Activations in a block.
pub(crate) const BLOCK_COLUMNS: usize = 128;

/// Values of a block.
const BLOCK: usize = BLOCK_ROWS * BLOCK_COLUMNS;

/// From how many activations on native weights are made tiles of F32 instead of being multiplied row by row.
const TILED_COLUMNS: usize = 4;

/// How a bank of weights is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Tiles of a block format, for quantised activations.
    PackedBlocks,
    /// Tiles of a float format, for F32 activations.
    PackedFloats,
    /// Rows in the file's layout.
    Native,
}

impl Form {
    fn of(request: &Request<'_>, operand: usize) -> Self {
        match (
            request.is_packed(operand),
            request.input(operand).dtype.is_block(),
        ) {
            (true, true) => Self::PackedBlocks,
            (true, false) => Self::PackedFloats,
            (false, _) => Self::Native,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::PackedBlocks | Self::PackedFloats => "packed",
            Self::Native => "native",
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::PackedBlocks => "packed tiles times quantised activations",
            Self::PackedFloats => "packed tiles times F32 activations",
            Self::Native => "weight rows read as F32 times F32 activations",
        }
    }
}

/// The plan of a product's memory, made when the kernel is chosen: weights in the first `N` operands, then activations.
#[derive(Clone, Copy)]
pub(crate) struct Layout<const N: usize> {
    forms: [Form; N],
    quantized: bool,
    /// Are F32 activations wanted, and are they not there as they come?
    converted: bool,
    groups: Slot<ActivationGroup>,
    floats: Slot<f32>,
    /// For each thread: `N` blocks, and the weights being read.
    own: Slot<f32>,
}

impl<const N: usize> Layout<N> {
    /// The memory of a product whose blocks have up to `n_columns` activations.
    pub(crate) fn new(
        request: &Request<'_>,
        n_columns: usize,
        scratch: &mut ScratchLayout,
    ) -> Self {
        let forms = std::array::from_fn(|i| Form::of(request, i));
        let x = request.input(N);
        let k = x.shape.last().bound();
        let n_rows = x
            .shape
            .leading(1)
            .iter()
            .map(|d| d.bound())
            .product::<usize>();
        let quantized = forms.contains(&Form::PackedBlocks);
        let floats = forms.iter().any(|f| *f != Form::PackedBlocks);
        let converted = floats && !is_plain(&x);
        let native = if forms.contains(&Form::Native) {
            if n_columns < TILED_COLUMNS {
                k
            } else {
                2 * BLOCK_ROWS * k
            }
        } else {
            0
        };
        Self {
            forms,
            quantized,
            converted,
            groups: scratch.table(if quantized { n_rows } else { 0 }, k / GROUP_ELEMS),
            floats: scratch.table(if converted { n_rows } else { 0 }, k),
            // Rows are read here while they are quantised, too.
            own: scratch.table(request.n_threads(), N * BLOCK + native.max(k)),
        }
    }

    /// The kernel's name, and why it.
    pub(crate) fn name(&self, family: &str, request: &Request<'_>) -> (String, &'static str) {
        let dtype = request.input(0).dtype.name().to_lowercase();
        let form = self.forms.first().copied().unwrap_or(Form::Native);
        (
            format!("{family}/{dtype}/{}/{}", form.name(), request.isa()),
            form.reason(),
        )
    }

    /// The operands and working memory of a step.
    pub(crate) fn build(&self, args: &Args<'_>, isa: Isa) -> Product<N> {
        Product {
            banks: std::array::from_fn(|i| {
                Bank::new(
                    args.input(i),
                    self.forms.get(i).copied().unwrap_or(Form::Native),
                )
            }),
            x: args.input(N),
            quantized: self.quantized,
            converted: self.converted,
            groups: args.table(self.groups),
            floats: args.table(self.floats),
            own: args.table(self.own),
            isa,
        }
    }
}

/// Are all rows one behind the other, in F32?
fn is_plain(x: &TensorDesc) -> bool {
    x.dtype == DType::F32 && x.is_contiguous()
}

/// One weight tensor.
struct Bank {
    weights: In,
    form: Form,
    n_rows: usize,
    k: usize,
    tile_bytes: usize,
    matrix_bytes: usize,
}

impl Bank {
    fn new(weights: In, form: Form) -> Self {
        let (dtype, n_rows, k) = (weights.dtype(), weights.grid().from_end(1), weights.width());
        Self {
            tile_bytes: pack::tile_bytes(dtype, k).unwrap_or(0),
            matrix_bytes: pack::packed_bytes(dtype, n_rows, k).unwrap_or(0),
            weights,
            form,
            n_rows,
            k,
        }
    }

    /// Rows of one block of a packed matrix, as a matrix of their own.
    fn packed(&self, matrix: usize, rows: &Range<usize>) -> Option<PackedMatrix<'_>> {
        let start = matrix * self.matrix_bytes + rows.start / TILE_ROWS * self.tile_bytes;
        let n_bytes = pack::tile_count(rows.len()) * self.tile_bytes;
        let bytes = self.weights.packed().get(start..start + n_bytes)?;
        PackedMatrix::new(self.weights.dtype(), rows.len(), self.k, bytes).ok()
    }
}

/// The operands of a product with its working memory.
pub(crate) struct Product<const N: usize> {
    banks: [Bank; N],
    x: In,
    quantized: bool,
    converted: bool,
    groups: Table<ActivationGroup>,
    floats: Table<f32>,
    own: Table<f32>,
    pub(crate) isa: Isa,
}

/// Memory of a thread's own: for each bank a block, `[activation][row]`, and the weights being read.
pub(crate) struct Workspace<'a, const N: usize> {
    pub(crate) blocks: [&'a mut [f32]; N],
    weights: &'a mut [f32],
}

/// Activations of a block: which rows of x.
#[derive(Clone, Copy)]
pub(crate) enum Activations<'a> {
    /// Neighbouring rows.
    Rows { start: usize, n: usize },
    /// Any rows; `output` counts from 0.
    Picked(&'a [Routed]),
}

impl<'a> Activations<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Rows { n, .. } => *n,
            Self::Picked(list) => list.len(),
        }
    }

    /// The row of x of an activation.
    fn row(&self, i: usize) -> usize {
        match self {
            Self::Rows { start, .. } => start + i,
            Self::Picked(list) => list.get(i).map_or(usize::MAX, |r| r.input as usize),
        }
    }

    /// Of all rows of x, each of `width` values, those that [`Activations::columns`] counts from 0.
    fn of<'x, T>(&self, x: &'x [T], width: usize) -> &'x [T] {
        match self {
            Self::Rows { start, n } => x
                .get(start * width..(start + n) * width)
                .unwrap_or_default(),
            Self::Picked(_) => x,
        }
    }

    /// The columns of the product.
    fn columns(&self) -> Columns<'a> {
        match *self {
            Self::Rows { n, .. } => Columns::Dense { start: 0, n },
            Self::Picked(list) => Columns::Routed(list),
        }
    }
}

impl<const N: usize> Product<N> {
    /// Must activations be prepared before they are multiplied?
    pub(crate) const fn prepares(&self) -> bool {
        self.quantized || self.converted
    }

    /// Are the activations too few to share the preparation?
    pub(crate) fn prepares_little(&self) -> bool {
        self.x.grid().n_elems() <= 16384
    }

    /// The phase that prepares activations: each row once for all products.
    pub(crate) fn prepare(&self, part: &mut Part<'_>) {
        let mut share = part.work.even(self.x.n_rows());
        let rows = share.units();
        let k = self.x.width();
        if self.converted {
            for (row, out) in rows
                .clone()
                .zip(share.table(&self.floats, 1).chunks_exact_mut(k.max(1)))
            {
                self.x.read_row(row, out);
            }
        }
        if self.quantized {
            let space = part.own.row(&self.own);
            let space = space.get_mut(..k).unwrap_or_default();
            let groups = share
                .table(&self.groups, 1)
                .chunks_exact_mut((k / GROUP_ELEMS).max(1));
            for (row, groups) in rows.zip(groups) {
                let quantized =
                    pack::quantize_activations(self.isa, self.x.row_f32(row, space), groups);
                debug_assert!(quantized.is_ok(), "{quantized:?}");
            }
        }
    }

    /// The thread's own memory.
    pub(crate) fn workspace<'a>(&'a self, part: &'a mut crate::part::Own) -> Workspace<'a, N> {
        let (blocks, weights) = {
            let own = part.row(&self.own);
            let at = (N * BLOCK).min(own.len());
            own.split_at_mut(at)
        };
        let mut rest = blocks;
        let blocks = std::array::from_fn(|_| {
            let (block, others) = std::mem::take(&mut rest)
                .split_at_mut_checked(BLOCK)
                .unwrap_or_default();
            rest = others;
            block
        });
        Workspace { blocks, weights }
    }

    /// All activations as F32 rows.
    fn floats(&self) -> &[f32] {
        if self.converted {
            self.floats.read()
        } else {
            self.x.values()
        }
    }

    /// Computes one block for each bank: rows `rows` (up to 32) of matrix `matrix`, up to 128 activations. Value
    /// `[activation * rows.len() + row]` of the workspace's blocks.
    pub(crate) fn block(
        &self,
        matrix: usize,
        rows: Range<usize>,
        activations: Activations<'_>,
        workspace: &mut Workspace<'_, N>,
    ) {
        for (bank, block) in self.banks.iter().zip(&mut workspace.blocks) {
            let n_values = rows.len() * activations.len();
            let Some(out) = block.get_mut(..n_values) else {
                continue;
            };
            if bank.k == 0 {
                out.fill(0.0);
            } else if bank.form == Form::Native {
                self.native_block(
                    bank,
                    matrix,
                    rows.clone(),
                    activations,
                    workspace.weights,
                    out,
                );
            } else if let Some(tiles) = bank.packed(matrix, &rows) {
                let inputs = match bank.form {
                    Form::PackedBlocks => {
                        let groups = activations.of(self.groups.read(), bank.k / GROUP_ELEMS);
                        QuantizedRows::new(groups, bank.k)
                            .ok()
                            .map(Inputs::Quantized)
                    }
                    _ => Some(self.float_inputs(activations, bank.k)),
                };
                if let Some(inputs) = inputs {
                    multiply(self.isa, &tiles, &inputs, activations.columns(), out);
                }
            }
        }
    }

    fn float_inputs(&self, activations: Activations<'_>, k: usize) -> Inputs<'_> {
        let values = activations.of(self.floats(), k);
        Inputs::Floats { values, k }
    }

    /// A block of native weights: row by row for few activations, as tiles of F32 for more.
    fn native_block(
        &self,
        bank: &Bank,
        matrix: usize,
        rows: Range<usize>,
        activations: Activations<'_>,
        space: &mut [f32],
        out: &mut [f32],
    ) {
        let (k, n_rows) = (bank.k, rows.len());
        let x = self.floats();
        let weight_row = |row: usize| matrix * bank.n_rows + row;
        if activations.len() < TILED_COLUMNS {
            let space = space.get_mut(..k).unwrap_or_default();
            for (r, row) in rows.enumerate() {
                let w = bank.weights.row_f32(weight_row(row), space);
                for (i, out) in out.chunks_exact_mut(n_rows).enumerate() {
                    let start = activations.row(i).saturating_mul(k);
                    let x = x.get(start..start.saturating_add(k)).unwrap_or_default();
                    if let Some(out) = out.get_mut(r) {
                        *out = math::dot(self.isa, w, x);
                    }
                }
            }
            return;
        }
        let (plain, rest) = space.split_at_mut((BLOCK_ROWS * k).min(space.len()));
        let Some(plain) = plain.get_mut(..n_rows * k) else {
            return;
        };
        for (row, plain) in rows.zip(plain.chunks_exact_mut(k)) {
            bank.weights.read_row(weight_row(row), plain);
        }
        let n_tiles = pack::tile_count(n_rows);
        let Some(tiles) = rest.get_mut(..n_tiles * TILE_ROWS * k) else {
            return;
        };
        let tiles: &mut [u8] = bytemuck::cast_slice_mut(tiles);
        let packed = pack::pack(
            DType::F32,
            (n_rows, k),
            bytemuck::cast_slice(plain),
            0..n_tiles,
            tiles,
        );
        debug_assert!(packed.is_ok(), "{packed:?}");
        if let Ok(tiles) = PackedMatrix::new(DType::F32, n_rows, k, tiles) {
            let inputs = self.float_inputs(activations, k);
            multiply(self.isa, &tiles, &inputs, activations.columns(), out);
        }
    }
}

/// All rows of a small packed matrix times activations.
fn multiply(
    isa: Isa,
    tiles: &PackedMatrix<'_>,
    inputs: &Inputs<'_>,
    columns: Columns<'_>,
    out: &mut [f32],
) {
    let n_rows = tiles.n_rows();
    if let Ok(mut output) = Output::new(out, columns.len(), n_rows, n_rows) {
        let result = gemm::matmul(isa, tiles, 0..tiles.n_tiles(), inputs, columns, &mut output);
        debug_assert!(result.is_ok(), "{result:?}");
    }
}
