//! Parameter blocks of products by matrix units, and the working memory that they name.

use bytemuck::{Pod, Zeroable};
use ggrs_core::DType;

use super::shape::Shape;
use super::tile::Tile;
use crate::driver::DevicePtr;
use crate::kernel::Args;
use crate::kernels::product::params::int;
use crate::kernels::product::{Form, Held, glu_number};
use crate::params::{FaultCell, View};
use crate::planes::Planes;

/// Alignment inside the working memory.
const ALIGN: u64 = 256;

/// Where things lie in the working memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    /// Scales of the activations, after those.
    scales: u64,
    /// Pairs sorted by expert.
    pairs: u64,
    /// Tiles of pairs.
    tiles: u64,
    /// Tiles side by side.
    pub(super) n_columns: usize,
    /// All.
    pub(super) bytes: u64,
}

impl Buffers {
    /// For activations in 16 bits, and if there are groups of pairs, those.
    pub(super) fn new(shape: &Shape, groups: usize, tile: Tile) -> Self {
        let scales = (2 * shape.n_rows as u64 * shape.padded_k() as u64).next_multiple_of(ALIGN);
        let pairs = scales + (4 * shape.n_rows as u64).next_multiple_of(ALIGN);
        if groups == 0 {
            return Self {
                scales,
                pairs,
                tiles: pairs,
                n_columns: shape.n_results.div_ceil(tile.columns),
                bytes: pairs,
            };
        }
        // Each group may leave a tile partly filled.
        let n_columns = shape.n_results / tile.columns + groups;
        let tiles = pairs + (4 * shape.n_results as u64).next_multiple_of(ALIGN);
        Self {
            scales,
            pairs,
            tiles,
            n_columns,
            bytes: tiles + 16 * n_columns as u64,
        }
    }
}

/// `ActivationRows` of `gemm_rows.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(super) struct ActivationRows {
    x: View,
    to: u64,
    scales: u64,
    pitch: i64,
    n_rows: i32,
    order: i32,
    is_f16: i32,
    is_plain: i32,
}

const _: () = assert!(size_of::<ActivationRows>() == 112);

/// `KOrder` of `gemm_rows.cuh`: the order in which fragments of a format come.
const fn order(dtype: DType) -> i32 {
    match dtype {
        DType::Q4_K | DType::Q5_K => 0,
        DType::Q6_K => 2,
        DType::Q2_K | DType::Q3_K => 3,
        DType::F16 | DType::BF16 => 4,
        _ => 1,
    }
}

impl ActivationRows {
    pub(super) fn new(shape: &Shape, x: View, scratch: DevicePtr, buffers: &Buffers) -> Self {
        let pitch = x.row_pitch();
        let is_plain = pitch.is_some_and(|pitch| pitch % 4 == 0)
            && x.has_neighbours()
            && x.data.is_multiple_of(16);
        Self {
            x,
            to: scratch.0,
            scales: scratch.plus(buffers.scales).0,
            pitch: pitch.unwrap_or(-1),
            n_rows: int(shape.n_rows),
            order: order(shape.dtype),
            is_f16: shape.is_f16().into(),
            is_plain: is_plain.into(),
        }
    }
}

/// `Sort` of `moe_sort.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(super) struct Sort {
    rows: ActivationRows,
    ids: View,
    fault: FaultCell,
    pairs: u64,
    tiles: u64,
    n_tile: i32,
    first: i32,
    held: i32,
    total: i32,
    is_plain: i32,
    pad: i32,
}

const _: () = assert!(size_of::<Sort>() == 240);

impl Sort {
    /// `ids`: which operand they are.
    pub(super) fn new(
        rows: ActivationRows,
        args: &Args<'_>,
        ids: usize,
        buffers: &Buffers,
        experts: Held,
        tile: Tile,
    ) -> Self {
        let ids = args.input(ids);
        let is_gapless = ids.has_neighbours() && ids.row_pitch() == Some(ids.width().into());
        Self {
            rows,
            ids,
            fault: args.cell(0),
            pairs: args.scratch.plus(buffers.pairs).0,
            tiles: args.scratch.plus(buffers.tiles).0,
            n_tile: int(tile.columns),
            first: int(experts.first),
            held: int(experts.held),
            total: int(experts.total),
            is_plain: (is_gapless && ids.data.is_multiple_of(16)).into(),
            pad: 0,
        }
    }
}

/// `Gemm` of `gemm.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(super) struct Gemm {
    planes: [Planes; 2],
    x: u64,
    scales: u64,
    out: u64,
    tiles: u64,
    pairs: u64,
    row_blocks: [u32; 2],
    expert_blocks: [u32; 2],
    m: i32,
    k: i32,
    n: i32,
    pairs_per_row: i32,
    is_gated: i32,
    glu: i32,
    dtype: i32,
    pad: i32,
}

const _: () = assert!(size_of::<Gemm>() == 184);

/// A weight's planes; scalars are one plane.
fn planes(args: &Args<'_>, i: usize, dtype: DType) -> Planes {
    let mut planes = args.planes(i);
    if let ([first, ..], false) = (&mut planes.start, dtype.is_block()) {
        *first = args.input(i).data;
    }
    planes
}

impl Gemm {
    pub(super) fn new(form: &Form, shape: &Shape, args: &Args<'_>, buffers: &Buffers) -> Self {
        let place = |at: u64| form.experts.map_or(0, |_| args.scratch.plus(at).0);
        let out = args.output(0);
        Self {
            planes: [0, form.n_weights() - 1].map(|i| planes(args, i, shape.dtype)),
            x: args.scratch.0,
            scales: args.scratch.plus(buffers.scales).0,
            out: out.data,
            tiles: place(buffers.tiles),
            pairs: place(buffers.pairs),
            row_blocks: shape.row_blocks,
            expert_blocks: shape.expert_blocks,
            m: int(shape.m),
            k: int(shape.k),
            n: int(shape.n_results),
            pairs_per_row: int(shape.results_per_row),
            is_gated: i32::from(shape.is_gated),
            glu: form.glu.map_or(0, glu_number),
            dtype: out.dtype,
            pad: 0,
        }
    }
}
