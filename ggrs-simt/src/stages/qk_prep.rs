//! Between products and attention: per-head norms and rotation of queries and keys, keys and values into the cache.
//!
//! `rms_norm q, rms_norm k, rope q, rope k, cache_write k, cache_write v`, in this order, become one launch.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{Op, Rope, RopeMode, Yarn};

use super::{Stage, StageArgs, Walk};
use crate::kernel::{Args, Launch, ModuleKey};
use crate::kernels::pages::Pages;
use crate::params::{FaultCell, dtype_number};
use crate::turns::wrapped;

/// Pairs of a head at most.
const MAX_PAIRS: usize = 128;

/// `QkPrep` of `qk_prep.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct QkPrep {
    q: u64,
    k: u64,
    v: u64,
    q_out: u64,
    q_weight: u64,
    k_weight: u64,
    k_cache: u64,
    v_cache: u64,
    pages: Pages,
    faults: [FaultCell; 6],
    turns: [u64; MAX_PAIRS],
    eps: f32,
    n_tokens: i32,
    n_heads: i32,
    n_kv_heads: i32,
    width: i32,
    value_width: i32,
    cache_dtype: i32,
    pad: i32,
}

const _: () = assert!(size_of::<QkPrep>() == 1272);

const THREADS: u32 = 128;

pub(super) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("qk_prep")]
}

/// The stage that begins at a step.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let steps = at..at + 6;
    let (q_norm, k_norm, q_rope, k_rope, k_write, v_write) =
        (at, at + 1, at + 2, at + 3, at + 4, at + 5);
    let (Op::RmsNorm(norm), Op::RmsNorm(other)) = (walk.op(q_norm)?, walk.op(k_norm)?) else {
        return None;
    };
    let (Op::Rope(rope), Op::Rope(other_rope)) = (walk.op(q_rope)?, walk.op(k_rope)?) else {
        return None;
    };
    let (Op::CacheWrite(write), Op::CacheWrite(other_write)) =
        (walk.op(k_write)?, walk.op(v_write)?)
    else {
        return None;
    };
    let alike = norm == other && rope == other_rope && write == other_write && norm.weighted;
    let (q, k) = (walk.output(q_norm, 0)?, walk.output(k_norm, 0)?);
    let chained = walk.reads(q_rope, 0, q)
        && walk.reads(k_rope, 0, k)
        && walk.reads(k_write, 1, walk.output(k_rope, 0)?);
    let inner = [q, k, walk.output(k_rope, 0)?];
    let inner = inner.into_iter().all(|v| walk.is_inner(v, &steps));
    let positions = walk.input(q_rope, 1)?;
    let pages = walk.reads(k_rope, 1, positions)
        && walk.reads(k_write, 2, positions)
        && (2..5).all(|i| {
            walk.input(k_write, i)
                .is_some_and(|v| walk.reads(v_write, i, v))
        });
    // Values are read in place: they must not be a result of these steps.
    let plain = [(q_norm, 0), (k_norm, 0), (v_write, 1)];
    let plain = plain
        .into_iter()
        .all(|(step, i)| walk.is_plain_f32(step, i));
    let caches = [walk.input_desc(k_write, 0)?, walk.input_desc(v_write, 0)?];
    let [k_cache, v_cache] = caches.map(|d| d.dtype);
    let cache = k_cache == v_cache && k_cache.is_float();
    if !(alike && chained && inner && pages && plain && cache && is_simple(rope)) {
        return None;
    }

    let (q, k) = (walk.sizes(q_norm, 0), walk.sizes(k_norm, 0));
    let v = walk.sizes(v_write, 1);
    let (&[n_tokens, n_heads, width], &[_, n_kv_heads, k_width]) = (&*q, &*k) else {
        return None;
    };
    let &[_, v_heads, value_width] = &*v else {
        return None;
    };
    // A cell of keys is one of values as well.
    let n_cells = |step| walk.sizes(step, 0).first().copied();
    let fits = k_width == width
        && v_heads == n_kv_heads
        && n_cells(k_write) == n_cells(v_write)
        && rope.n_rot == width;
    if !fits || width / 2 > MAX_PAIRS || n_tokens == 0 {
        return None;
    }
    let whole = |n: usize| i32::try_from(n).ok();
    let params = QkPrep {
        turns: turns_of(rope),
        eps: norm.eps.0,
        n_tokens: whole(n_tokens)?,
        n_heads: whole(n_heads)?,
        n_kv_heads: whole(n_kv_heads)?,
        width: whole(width)?,
        value_width: whole(value_width)?,
        cache_dtype: dtype_number(k_cache),
        ..QkPrep::zeroed()
    };
    let n_units = n_tokens * (n_heads + 2 * n_kv_heads);
    let warps = (THREADS / walk.facts.warp.max(1)).max(1) as usize;
    let grid = u32::try_from(n_units.div_ceil(warps)).ok()?;
    let block = write.block;
    let build = move |args: &StageArgs<'_>| {
        let [q_norm, k_norm, q_rope, _, k_write, v_write] = args.steps else {
            return Vec::new();
        };
        place(
            params,
            [q_norm, k_norm, q_rope, k_write, v_write],
            block,
            args.cells,
            grid,
        )
    };
    let reason = "norms, rotation and cache writes of queries, keys and values in one launch";
    let mut stage = Stage::new(steps, "qk_prep", reason, 0, build);
    for step in [k_write, v_write] {
        let (cache, table) = (walk.input_desc(step, 0)?, walk.input_desc(step, 4)?);
        for fault in Pages::faults(cache, table, block) {
            stage = stage.fault(step, fault);
        }
    }
    Some(stage)
}

/// Rotation of whole heads in pairs of halves, without scaling.
fn is_simple(rope: &Rope) -> bool {
    rope.mode == RopeMode::Neox && !rope.factors && rope.yarn == Yarn::default()
}

/// Turns per position of each pair.
fn turns_of(rope: &Rope) -> [u64; MAX_PAIRS] {
    let mut turns = [0; MAX_PAIRS];
    for (turn, pair) in turns.iter_mut().zip(rope.pairs()) {
        *turn = wrapped(pair);
    }
    turns
}

fn place(
    mut params: QkPrep,
    [q_norm, k_norm, q_rope, k_write, v_write]: [&Args<'_>; 5],
    block: usize,
    cells: &[FaultCell],
    grid: u32,
) -> Vec<Launch> {
    params.q = q_norm.input(0).data;
    params.q_weight = q_norm.input(1).data;
    params.k = k_norm.input(0).data;
    params.k_weight = k_norm.input(1).data;
    params.q_out = q_rope.output(0).data;
    params.v = v_write.input(1).data;
    params.k_cache = k_write.output(0).data;
    params.v_cache = v_write.output(0).data;
    params.pages = Pages::of(k_write, block);
    params.faults = std::array::from_fn(|i| cells.get(i).copied().unwrap_or_default());
    vec![Launch::new(
        ModuleKey::plain("qk_prep"),
        "qk_prep",
        grid,
        THREADS,
        &params,
    )]
}
