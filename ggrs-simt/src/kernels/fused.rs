//! Launches that do several products of a few activations at once, for stages of steps: `fused_products.cu` and
//! `fused_experts.cu`.

use bytemuck::{Pod, Zeroable};
use ggrs_core::DType;
use ggrs_core::ops::GluKind;
use smallvec::SmallVec;

use super::axes::Divisor;
use super::norm_q8::{self, NormQ8};
use super::product::matvec::{self, lanes, min_lanes, rows_together, unit_elems};
use super::product::params::int;
use super::product::q8::Q8;
use super::product::{Held, glu_number};
use super::select::RouterParams;
use crate::driver::DevicePtr;
use crate::kernel::{Args, Launch, ModuleKey};
use crate::params::{FaultCell, View};
use crate::planes::Planes;

const PRODUCTS: &str = "fused_products";
const EXPERTS: &str = "fused_experts";
/// Matrices that one launch multiplies by the same activations.
pub(crate) const MAX_MATRICES: usize = 4;
const PRODUCT_THREADS: u32 = 256;
/// Threads at most of a block that makes the one row for itself.
const OF_ROW_THREADS: u32 = 640;
/// Threads at most of one of its rows.
const OF_ROW_LANES: u32 = 512;
/// Threads of `experts_up`, and its rows of gate and up.
const UP_THREADS: u32 = 256;
const UP_ROWS: u32 = 16;
/// Threads at most of `experts_down`, and those that have a row: lanes of a warp, of either width.
const DOWN_THREADS: u32 = 512;
const DOWN_ROW_THREADS: u32 = 32;

/// A matrix of weights, or a bank of them, of block formats in planes or of scalars in rows of multiples of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    pub(crate) planes: Planes,
    /// Blocks from a row to the next; of scalars, elements.
    pub(crate) row_pitch: i64,
    /// Blocks from a matrix of the bank to the next.
    pub(crate) expert_pitch: i64,
    pub(crate) m: u32,
    pub(crate) k: u32,
    pub(crate) dtype: DType,
}

impl Weights {
    /// Operand `i` of a step, of this dtype.
    pub(crate) fn of(args: &Args<'_>, i: usize, dtype: DType) -> Self {
        let view = args.input(i);
        let [.., expert, row, _] = view.stride;
        let [.., m, _] = view.size;
        let per_block = dtype.block_elems() as i64;
        Self {
            planes: matvec::planes(args, i, &view),
            row_pitch: row / per_block,
            expert_pitch: expert / per_block,
            m: m.unsigned_abs(),
            k: view.width(),
            dtype,
        }
    }

    fn n_units(&self) -> u64 {
        u64::from(self.m) * (u64::from(self.k) / unit_elems(self.dtype))
    }
}

/// One of the products of [`joined`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) weights: Weights,
    /// F32 results of the first activation.
    pub(crate) out: DevicePtr,
    /// Elements from there to those of the next.
    pub(crate) out_pitch: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
struct Matrix {
    weights: Planes,
    row_pitch: i64,
    out: u64,
    out_pitch: i64,
    m: i32,
    dtype: i32,
    lane_bits: i32,
    first_block: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Joined {
    matrices: [Matrix; MAX_MATRICES],
    rows: NormQ8,
    n_matrices: i32,
    n: i32,
}

const _: () = assert!(size_of::<Matrix>() == 88);
const _: () = assert!(size_of::<Joined>() == 432);

/// Up to [`MAX_MATRICES`] products with the same `n` rows, which are made here: by the blocks themselves where that is
/// cheaper than a launch. Block formats multiply rows in 8 bits, scalars their norms in F32. No launch if there are no
/// products, or too many.
pub(crate) fn joined(parts: &[Part], rows: NormQ8, n: u32, n_multiprocessors: u32) -> Vec<Launch> {
    if parts.is_empty() || parts.len() > MAX_MATRICES || n == 0 {
        return Vec::new();
    }
    let (tokens, name) = match n {
        1 => (1, "1"),
        2 => (2, "2"),
        _ => (4, "4"),
    };
    let n_units = parts.iter().map(|p| p.weights.n_units()).sum();
    // Threads of a row of each matrix, as many at most.
    let lanes_of = |most: u32| -> SmallVec<[u32; MAX_MATRICES]> {
        let of = |w: &Weights| lanes(w.dtype, u64::from(w.k), n_units, n_multiprocessors, most);
        parts.iter().map(|part| of(&part.weights)).collect()
    };
    // Blocks of a matrix.
    let blocks_of = |part: &Part, lanes: u32, threads: u32| {
        let dtype = part.weights.dtype;
        let together = if tokens == 1 { 1 } else { rows_together(dtype) };
        part.weights.m.div_ceil(threads / lanes * together)
    };
    let many = lanes_of(OF_ROW_LANES);
    let each = || parts.iter().zip(&many);
    let wanted = each().map(|(part, lanes)| u64::from(part.weights.m) * u64::from(*lanes));
    let unit = many.iter().copied().max().unwrap_or(1);
    let shape = (wanted.sum(), unit, OF_ROW_THREADS);
    let blocks = |threads| {
        let of_each = each().map(|(part, lanes)| blocks_of(part, *lanes, threads));
        of_each.sum()
    };
    let of_row = rows
        .threads_of_each(shape, n_multiprocessors, blocks)
        .filter(|_| n == 1);
    let (threads, lanes) = match of_row {
        Some(threads) => (threads, many),
        None => (PRODUCT_THREADS, lanes_of(PRODUCT_THREADS)),
    };
    let mut matrices = [Matrix::default(); MAX_MATRICES];
    let mut first_block = 0_u32;
    for ((matrix, part), lanes) in matrices.iter_mut().zip(parts).zip(&lanes) {
        let w = &part.weights;
        *matrix = Matrix {
            weights: w.planes,
            row_pitch: w.row_pitch,
            out: part.out.0,
            out_pitch: part.out_pitch,
            m: w.m.cast_signed(),
            dtype: crate::params::dtype_number(w.dtype),
            lane_bits: lanes.trailing_zeros().cast_signed(),
            first_block: first_block.cast_signed(),
        };
        first_block += blocks_of(part, *lanes, threads);
    }
    let p = Joined {
        matrices,
        rows,
        n_matrices: int(parts.len()),
        n: n.cast_signed(),
    };
    let launch = |kernel| {
        let module = ModuleKey::plain(PRODUCTS).with("TOKENS", name);
        Launch::new(module, kernel, first_block, threads, &p).deep(n.div_ceil(tokens), 1)
    };
    if of_row.is_some() {
        vec![launch("joined_products_of_row").shared(rows.own_bytes())]
    } else {
        vec![rows.launch(n), launch("joined_products")]
    }
}

/// `Experts` of `fused_experts.cu`: who goes where.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct Experts {
    ids: u64,
    token_pitch: i64,
    choice_pitch: i64,
    fault: FaultCell,
    n_used: i32,
    first: i32,
    held: i32,
    total: i32,
}

impl Experts {
    /// The experts that `ids`, I32 `[tokens, n_used]`, name.
    pub(crate) fn new(ids: &View, held: &Held, fault: FaultCell) -> Self {
        let [.., token_pitch, choice_pitch] = ids.stride;
        Self {
            ids: ids.data,
            token_pitch,
            choice_pitch,
            fault,
            n_used: ids.width().cast_signed(),
            first: int(held.first),
            held: int(held.held),
            total: int(held.total),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct ExpertsUp {
    weights: [Planes; 2],
    row_pitch: [i64; 2],
    expert_pitch: [i64; 2],
    experts: Experts,
    x: Q8,
    hidden: u64,
    router: RouterParams,
    m: i32,
    x_per_token: i32,
    glu: i32,
    n_pairs: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct ExpertsDown {
    weights: Planes,
    row_pitch: i64,
    expert_pitch: i64,
    experts: Experts,
    hidden: u64,
    factors: u64,
    factor_token_pitch: i64,
    factor_choice_pitch: i64,
    out: u64,
    k: Divisor,
    m: i32,
    lane_bits: i32,
    expert_bits: i32,
}

const _: () = assert!(size_of::<Experts>() == 56);
const _: () = assert!(size_of::<ExpertsUp>() == 352);
const _: () = assert!(size_of::<ExpertsDown>() == 184);

/// `activation(gate product) * (up product)` of the experts of `n_tokens` tokens: `hidden` is F32 `[tokens, n_used, m]`,
/// and `x` has `x_per_token` rows for each token. Gate and up are banks of one block format in planes. Ids out of range
/// are reported. With a `router` its choice is made in the same launch.
pub(crate) fn experts_up(
    [gate, up]: [Weights; 2],
    glu: GluKind,
    (experts, router): (Experts, Option<RouterParams>),
    (x, x_per_token): (Q8, u32),
    hidden: DevicePtr,
    n_tokens: u32,
) -> Launch {
    let n_pairs = n_tokens * experts.n_used.unsigned_abs();
    let p = ExpertsUp {
        weights: [gate.planes, up.planes],
        row_pitch: [gate.row_pitch, up.row_pitch],
        expert_pitch: [gate.expert_pitch, up.expert_pitch],
        experts,
        x,
        hidden: hidden.0,
        router: router.unwrap_or(RouterParams::zeroed()),
        m: gate.m.cast_signed(),
        x_per_token: x_per_token.cast_signed(),
        glu: glu_number(glu),
        n_pairs: n_pairs.cast_signed(),
    };
    let module = ModuleKey::plain(EXPERTS).with("FORMAT", gate.dtype.name());
    let blocks = gate.m.div_ceil(UP_ROWS);
    // Those behind the pairs write the choice.
    let writers = if router.is_some() { n_tokens } else { 0 };
    Launch::new(module, "experts_up", blocks, UP_THREADS, &p)
        .shared(Q8::shared_bytes(1, gate.k))
        .deep(n_pairs + writers, 1)
}

/// The experts' second products, each times its factor, added up in the order of the choices. `hidden` is what
/// [`experts_up`] wrote, `factors` F32 `[tokens, n_used]`, `out` F32 `[tokens, m]` without gaps. Ids out of range count
/// as experts that are not here. A block has a token's hidden activations in shared memory, in 8 bits.
pub(crate) fn experts_down(
    down: Weights,
    experts: Experts,
    hidden: DevicePtr,
    factors: &View,
    out: DevicePtr,
    (n_tokens, n_multiprocessors): (u32, u32),
) -> Launch {
    let units = u64::from(down.k) / unit_elems(down.dtype);
    let lanes = (units / 8)
        .next_power_of_two()
        .clamp(min_lanes(down.dtype), u64::from(DOWN_ROW_THREADS)) as u32;
    let n_used = experts.n_used.unsigned_abs();
    let groups = (DOWN_ROW_THREADS / lanes).min(n_used.next_power_of_two());
    // A block on each multiprocessor, of whole warps.
    let rows = down.m.saturating_mul(n_tokens);
    let rows = rows.div_ceil(n_multiprocessors.max(1)).min(DOWN_THREADS);
    let threads = (rows * lanes * groups).next_multiple_of(64);
    let threads = threads.clamp(128, DOWN_THREADS);
    let [.., factor_token_pitch, factor_choice_pitch] = factors.stride;
    let p = ExpertsDown {
        weights: down.planes,
        row_pitch: down.row_pitch,
        expert_pitch: down.expert_pitch,
        experts,
        hidden: hidden.0,
        factors: factors.data,
        factor_token_pitch,
        factor_choice_pitch,
        out: out.0,
        k: Divisor::new(u64::from(down.k)),
        m: down.m.cast_signed(),
        lane_bits: lanes.trailing_zeros().cast_signed(),
        expert_bits: groups.trailing_zeros().cast_signed(),
    };
    let module = ModuleKey::plain(EXPERTS).with("FORMAT", down.dtype.name());
    let blocks = down.m.div_ceil(threads / (lanes * groups));
    Launch::new(module, "experts_down", blocks, threads, &p)
        .shared(Q8::shared_bytes(n_used, down.k))
        .deep(n_tokens, 1)
}

/// Modules for each number of activations, and for each block format.
pub(crate) fn modules() -> Vec<ModuleKey> {
    let counts = ["1", "2", "4"].map(|n| ModuleKey::plain(PRODUCTS).with("TOKENS", n));
    let formats = DType::ALL.into_iter().filter(|d| d.is_block());
    let experts = formats.map(|d| ModuleKey::plain(EXPERTS).with("FORMAT", d.name()));
    let rows = norm_q8::modules().into_iter();
    counts.into_iter().chain(experts).chain(rows).collect()
}
