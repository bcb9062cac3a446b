//! Between products and attention: per-head norms and rotation of queries and keys, keys and values into the cache.
//!
//! `rms_norm q, rms_norm k, rope q, rope k, cache_write k, cache_write v`, in this order, become one launch; of one token,
//! with the attention that follows.

use ggrs_core::ops::{Op, Rope, RopeMode, Yarn};

use super::{Stage, StageArgs, Walk};
use crate::kernel::{Args, FaultKind};
use crate::kernels::attention::DecodeHeads;
use crate::kernels::pages::Pages;
use crate::kernels::qk_prep::{MAX_PAIRS, QkPrep, QkPrepArgs};
use crate::params::dtype_number;

/// The six steps, all but their memory.
struct Heads {
    prep: QkPrep,
    /// Cells of a block of the caches.
    block: usize,
    /// What the two writers may find wrong.
    faults: Vec<(usize, FaultKind)>,
}

/// The steps that begin at a step.
fn heads(walk: &Walk<'_>, at: usize) -> Option<Heads> {
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
    let mut prep = QkPrep::turning(rope);
    prep.eps = norm.eps.0;
    prep.n_tokens = whole(n_tokens)?;
    prep.n_heads = whole(n_heads)?;
    prep.n_kv_heads = whole(n_kv_heads)?;
    prep.width = whole(width)?;
    prep.value_width = whole(value_width)?;
    prep.cache_dtype = dtype_number(k_cache);
    let mut faults = Vec::new();
    for step in [k_write, v_write] {
        let (cache, table) = (walk.input_desc(step, 0)?, walk.input_desc(step, 4)?);
        let of_pages = Pages::faults(cache, table, write.block);
        faults.extend(of_pages.map(|fault| (step, fault)));
    }
    Some(Heads {
        prep,
        block: write.block,
        faults,
    })
}

impl Heads {
    /// The parameters over the memory of the steps.
    fn over(&self, args: &StageArgs<'_>) -> Option<QkPrep> {
        let [q_norm, k_norm, q_rope, _, k_write, v_write, ..] = args.steps else {
            return None;
        };
        Some(self.prep.over(&QkPrepArgs {
            q_norm,
            k_norm,
            q_rope,
            k_write,
            v_write,
            block: self.block,
            cells: args.cells,
        }))
    }
}

/// The stage that begins at a step: with the attention of one token behind it, or alone.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let heads = heads(walk, at)?;
    Some(match attention(walk, at) {
        Some(decode) => with_attention(heads, decode, at),
        None => alone(heads, at, walk.facts.warp),
    })
}

fn alone(heads: Heads, at: usize, warp: u32) -> Stage {
    let reason = "norms, rotation and cache writes of queries, keys and values in one launch";
    let faults = heads.faults.clone();
    let build = move |args: &StageArgs<'_>| {
        let prep = heads.over(args);
        prep.map(|prep| prep.launch(warp)).into_iter().collect()
    };
    Stage::new(at..at + 6, "qk_prep", reason, 0, build).faults(faults)
}

/// The attention behind the six steps, if it is of one token and nobody else reads the queries.
fn attention(walk: &Walk<'_>, at: usize) -> Option<DecodeHeads> {
    let (q_rope, k_write, v_write, attention) = (at + 2, at + 4, at + 5, at + 6);
    let Op::Attention(op) = walk.op(attention)? else {
        return None;
    };
    let queries = walk.output(q_rope, 0)?;
    let chained = walk.reads(attention, 0, queries)
        && walk.is_inner(queries, &(at..attention + 1))
        && walk.input(attention, 1)? == walk.output(k_write, 0)?
        && walk.input(attention, 2)? == walk.output(v_write, 0)?
        && (2..5).all(|i| {
            walk.input(k_write, i)
                .is_some_and(|v| walk.reads(attention, i + 1, v))
        });
    let decode = walk.with_request(attention, |request| DecodeHeads::new(op, request))??;
    chained.then_some(decode)
}

fn with_attention(heads: Heads, decode: DecodeHeads, at: usize) -> Stage {
    let attention = at + 6;
    let mut faults = heads.faults.clone();
    faults.extend(decode.faults.iter().map(|fault| (attention, *fault)));
    let reason = format!(
        "queries, keys and values made ready where they are read; {}",
        decode.reason
    );
    let (scratch, n_counters, n_own) =
        (decode.scratch_bytes, decode.n_counters, heads.faults.len());
    let build = move |args: &StageArgs<'_>| {
        let launch = heads
            .over(args)
            .zip(args.steps.last())
            .map(|(prep, attention)| {
                decode.launch(
                    prep,
                    &Args {
                        scratch: args.scratch,
                        counters: args.counters,
                        cells: args.cells.get(n_own..).unwrap_or_default(),
                        ..*attention
                    },
                )
            });
        launch.into_iter().collect()
    };
    Stage::new(
        at..attention + 1,
        "qk_prep+attention/decode",
        reason,
        scratch,
        build,
    )
    .faults(faults)
    .counters(n_counters)
}

/// Rotation of whole heads in pairs of halves, without scaling.
fn is_simple(rope: &Rope) -> bool {
    rope.mode == RopeMode::Neox && !rope.factors && rope.yarn == Yarn::default()
}
