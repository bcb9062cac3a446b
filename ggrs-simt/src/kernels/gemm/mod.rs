//! Matrix products of many activations by matrix units: dense, and with pairs of a token and an expert sorted by expert.

mod params;
mod shape;
mod tile;

use ggrs_core::error::{Refusal, RefusalReason};
use ggrs_core::ops::{GluKind, Window};

use self::params::{ActivationRows, Buffers, Gemm, Sort};
use self::shape::Shape;
use self::tile::Tile;
use super::product::Form;
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request};

/// The kernels' name in refusals.
const NAME: &str = "matrix units";

/// Fewer activations are multiplied as weights are read.
const MIN_TOKENS: usize = 16;
/// Fewer pairs for each expert are multiplied pair by pair.
const MIN_PAIRS_PER_EXPERT: usize = 2;
/// Experts that the sort has blocks for.
const MAX_EXPERTS: usize = 4096;

/// Elements of a row that a warp keeps while it converts them: 512 for each of `UNITS_KEPT` of `gemm_rows.cuh`.
const CONVERTED_BY_WARP: usize = 1024;
/// Threads of a block that converts activations or sorts pairs.
const CONVERT_THREADS: u32 = 256;
/// Blocks that convert: enough to fill any device.
const MAX_BLOCKS: u32 = 4096;

const fn refusal(reason: RefusalReason) -> Refusal {
    Refusal {
        kernel: NAME,
        reason,
    }
}

/// The kernel for products of all activations with the same weights.
pub(crate) fn dense(request: &Request<'_>, glu: Option<GluKind>) -> Result<Choice, Refusal> {
    let form = Form::dense(glu);
    let shape = Shape::dense(&form, request).map_err(refusal)?;
    if shape.n_results < MIN_TOKENS {
        let needs = "16 activations or more";
        return Err(refusal(RefusalReason::Feature { needs }));
    }
    let tile = Tile::dense(&shape, request.facts);
    Ok(choice(form, shape, tile))
}

/// The kernel for products with experts chosen per token.
pub(crate) fn grouped(
    request: &Request<'_>,
    window: Option<Window>,
    glu: Option<GluKind>,
) -> Result<Choice, Refusal> {
    let form = Form::by_id(window, glu, request);
    let shape = Shape::grouped(&form, request).map_err(refusal)?;
    let total = form.experts.map_or(0, |e| e.total);
    if shape.n_results < MIN_TOKENS.max(total.saturating_mul(MIN_PAIRS_PER_EXPERT)) {
        let needs = "two pairs for each expert or more";
        return Err(refusal(RefusalReason::Feature { needs }));
    }
    if total > MAX_EXPERTS {
        return Err(refusal(RefusalReason::Size {
            what: "number of experts",
            got: total,
            max: MAX_EXPERTS,
        }));
    }
    let tile = Tile::grouped(&shape, total, request.facts);
    let choice = choice(form, shape, tile);
    Ok(choice.fault(FaultKind::IndexOutOfRange {
        role: "expert ids",
        bound: total,
    }))
}

fn choice(form: Form, shape: Shape, tile: Tile) -> Choice {
    let groups = form.experts.map_or(0, |e| e.held + 1);
    let buffers = Buffers::new(&shape, groups, tile);
    let sorted = if groups == 0 {
        ""
    } else {
        ", pairs sorted by expert"
    };
    let reason = format!(
        "weights as {} times {} activations a tile{sorted}",
        if shape.is_f16() { "F16" } else { "BF16" },
        tile.columns
    );
    let name = format!("{}/{}", form.stem(), tile.kernel());
    Choice::new(name, reason, move |args| {
        launches(&form, &shape, tile, &buffers, args)
    })
    .scratch(buffers.bytes)
}

fn launches(
    form: &Form,
    shape: &Shape,
    tile: Tile,
    buffers: &Buffers,
    args: &Args<'_>,
) -> Vec<Launch> {
    let rows = ActivationRows::new(shape, args.input(form.n_weights()), args.scratch, buffers);
    let warps = shape
        .padded_k()
        .div_ceil(CONVERTED_BY_WARP)
        .next_power_of_two();
    let rows_of_block = (CONVERT_THREADS as usize / 32 / warps).max(1);
    let blocks = shape
        .n_rows
        .div_ceil(rows_of_block)
        .min(MAX_BLOCKS as usize) as u32;
    let prepare = match form.experts {
        None => {
            let module = ModuleKey::plain("gemm_convert");
            Launch::new(
                module,
                "convert_activations",
                blocks,
                CONVERT_THREADS,
                &rows,
            )
        }
        Some(experts) => {
            let sort = Sort::new(rows, args, form.n_weights() + 1, buffers, experts, tile);
            let grid = experts.held as u32 + 1 + blocks;
            let module = ModuleKey::plain("moe_sort");
            Launch::new(module, "moe_sort", grid, CONVERT_THREADS, &sort)
        }
    };
    let gemm = Gemm::new(form, shape, args, buffers);
    let grid = u32::try_from(tile.blocks(shape, buffers.n_columns)).unwrap_or(u32::MAX >> 1);
    let product = Launch::new(
        tile.module(shape.dtype),
        tile.kernel(),
        grid,
        tile.threads(),
        &gemm,
    );
    vec![prepare, product.shared(tile.shared_bytes())]
}

/// Every module of these kernels.
pub(crate) fn modules() -> Vec<ModuleKey> {
    let mut all = tile::modules();
    all.push(ModuleKey::plain("gemm_convert"));
    all.push(ModuleKey::plain("moe_sort"));
    all
}
