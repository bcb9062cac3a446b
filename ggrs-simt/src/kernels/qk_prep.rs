//! Queries, keys and values made ready for attention: `qk_prep.cuh`.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::Rope;

use super::pages::Pages;
use crate::kernel::{Args, Launch, ModuleKey};
use crate::params::FaultCell;
use crate::turns::wrapped;

/// Pairs of a head at most.
pub(crate) const MAX_PAIRS: usize = 128;

/// `QkPrep` of `qk_prep.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct QkPrep {
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
    pub(crate) eps: f32,
    pub(crate) n_tokens: i32,
    pub(crate) n_heads: i32,
    pub(crate) n_kv_heads: i32,
    pub(crate) width: i32,
    pub(crate) value_width: i32,
    pub(crate) cache_dtype: i32,
    pad: i32,
}

const _: () = assert!(size_of::<QkPrep>() == 1272);

const THREADS: u32 = 128;

/// The memory of the steps that it stands for.
pub(crate) struct QkPrepArgs<'a> {
    pub(crate) q_norm: &'a Args<'a>,
    pub(crate) k_norm: &'a Args<'a>,
    pub(crate) q_rope: &'a Args<'a>,
    pub(crate) k_write: &'a Args<'a>,
    pub(crate) v_write: &'a Args<'a>,
    /// Cells of a block of the caches.
    pub(crate) block: usize,
    /// Of the writer of keys, then of that of values, each as [`Pages::faults`].
    pub(crate) cells: &'a [FaultCell],
}

impl QkPrep {
    /// Without memory, with the rotation's turns.
    pub(crate) fn turning(rope: &Rope) -> Self {
        let mut prep = Self::zeroed();
        for (turn, pair) in prep.turns.iter_mut().zip(rope.pairs()) {
            *turn = wrapped(pair);
        }
        prep
    }

    /// The same over memory.
    pub(crate) fn over(mut self, args: &QkPrepArgs<'_>) -> Self {
        self.q = args.q_norm.input(0).data;
        self.q_weight = args.q_norm.input(1).data;
        self.k = args.k_norm.input(0).data;
        self.k_weight = args.k_norm.input(1).data;
        self.q_out = args.q_rope.output(0).data;
        self.v = args.v_write.input(1).data;
        self.k_cache = args.k_write.output(0).data;
        self.v_cache = args.v_write.output(0).data;
        self.pages = Pages::of(args.k_write, args.block);
        self.faults = std::array::from_fn(|i| args.cells.get(i).copied().unwrap_or_default());
        self
    }

    /// A launch of its own.
    pub(crate) fn launch(&self, warp: u32) -> Launch {
        let per_token = self.n_heads + 2 * self.n_kv_heads;
        let n_units = self.n_tokens.saturating_mul(per_token).unsigned_abs();
        let blocks = n_units.div_ceil((THREADS / warp.max(1)).max(1));
        Launch::new(module(), "qk_prep", blocks, THREADS, self)
    }
}

fn module() -> ModuleKey {
    ModuleKey::plain("qk_prep")
}

/// Its module.
pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![module()]
}
