//! Rotary position embedding: a thread turns one pair of several heads, so that an angle is computed once for them.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{Rope, RopeMode, RopePair};
use ggrs_core::{DType, Unsupported};

use super::axes::{Axes, Divisor, THREADS, Walk, strides};
use crate::kernel::{Args, Choice, Launch, ModuleKey, Request};
use crate::turns::{turns, wrapped};

/// Pairs of one launch: `MAX_PAIRS` of `rope.cu`.
const MAX_PAIRS: usize = 256;

/// `RopeParams` of `rope.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RopeParams {
    tokens: Axes,
    x: u64,
    out: u64,
    positions: u64,
    factors: u64,
    head_stride: i64,
    n_heads: i32,
    n_heads_each: i32,
    n_tokens: i32,
    dtype: i32,
    width: i32,
    half: i32,
    first: i32,
    n_pairs: i32,
    is_adjacent: i32,
    n_threads: Divisor,
    magnitude: f32,
    pad: i32,
    turns: [u64; MAX_PAIRS],
    rows: [u8; MAX_PAIRS],
}

const _: () = assert!(size_of::<RopeParams>() == 2592);

const MODULE: ModuleKey = ModuleKey::plain("rope");

/// Threads that a multiprocessor should have before they get more than one head each.
const THREADS_EACH: u64 = 1024;

/// Heads of a thread, at most.
const MAX_HEADS: u32 = 16;

/// Blocks along y, at most.
const MAX_BLOCKS_DEEP: u32 = 65_535;

/// An op without its tensors.
struct Turning {
    pairs: Vec<RopePair>,
    magnitude: f32,
    is_adjacent: bool,
    has_factors: bool,
    n_multiprocessors: u32,
}

/// Rotates the first `n_rot` elements of every head by its token's position.
pub(crate) fn rope(op: &Rope, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let turning = Turning {
        pairs: op.pairs().collect(),
        magnitude: op.magnitude() as f32,
        is_adjacent: op.mode == RopeMode::Normal,
        has_factors: op.factors,
        n_multiprocessors: request.facts.n_multiprocessors,
    };
    let reason = "a thread for a pair of several heads, angles wrapped exactly";
    Ok(Choice::new("rope/pairs", reason, move |args| {
        turning.launches(args)
    }))
}

impl Turning {
    fn launches(&self, args: &Args<'_>) -> Vec<Launch> {
        let (x, out) = (args.input(0), args.output(0));
        if out.elems() == 0 {
            return Vec::new();
        }
        let mut sizes = x.size.map(|n| u64::from(n.unsigned_abs()));
        let (width, n_heads) = (x.width(), x.size[3].unsigned_abs());
        (sizes[3], sizes[4]) = (1, 1);
        let of_token = [0, 0, 1, 0, 0];
        let tokens = Walk::new(&sizes, [strides(&x), of_token, [0; 5]]).axes();
        let half = self.pairs.len();
        let rest = u64::from(width).saturating_sub(2 * half as u64);
        let mut launches = Vec::new();
        for (i, pairs) in self.pairs.chunks(MAX_PAIRS).enumerate() {
            let first = i * MAX_PAIRS;
            // What is not turned is copied by the last launch.
            let copied = if first + pairs.len() == half { rest } else { 0 };
            let n_threads = pairs.len() as u64 + copied;
            let all = tokens.n().saturating_mul(n_threads);
            let n_heads_each = self.heads_of_a_thread(all, n_heads);
            let mut params = RopeParams {
                tokens,
                x: x.data,
                out: out.data,
                positions: args.input(1).data,
                factors: 0,
                head_stride: x.stride[3],
                n_heads: x.size[3],
                n_heads_each: n_heads_each as i32,
                n_tokens: x.size[2],
                dtype: x.dtype,
                width: x.size[4],
                half: half as i32,
                first: first as i32,
                n_pairs: pairs.len() as i32,
                is_adjacent: self.is_adjacent.into(),
                n_threads: Divisor::new(n_threads),
                magnitude: self.magnitude,
                pad: 0,
                turns: [0; MAX_PAIRS],
                rows: [0; MAX_PAIRS],
            };
            if self.has_factors {
                params.factors = args.input(2).data;
            }
            let to = params.turns.iter_mut().zip(&mut params.rows);
            for ((turn, row), pair) in to.zip(pairs) {
                *row = pair.row;
                *turn = if self.has_factors {
                    turns(*pair).to_bits()
                } else {
                    wrapped(*pair)
                };
            }
            let kernel = if x.dtype == DType::F32 as i32 {
                "rope_f32"
            } else {
                "rope_any"
            };
            let blocks = all.div_ceil(u64::from(THREADS));
            let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
            let launch = Launch::new(MODULE, kernel, blocks, THREADS, &params);
            launches.push(launch.deep(n_heads.div_ceil(n_heads_each), 1));
        }
        launches
    }

    /// As many as leave enough threads; more if the grid has no room.
    fn heads_of_a_thread(&self, threads: u64, n_heads: u32) -> u32 {
        let wanted = u64::from(self.n_multiprocessors.max(1)) * THREADS_EACH;
        let heads = threads.saturating_mul(u64::from(n_heads)) / wanted;
        let heads = u32::try_from(heads).unwrap_or(u32::MAX).clamp(1, MAX_HEADS);
        heads.max(n_heads.div_ceil(MAX_BLOCKS_DEEP))
    }
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![MODULE]
}
