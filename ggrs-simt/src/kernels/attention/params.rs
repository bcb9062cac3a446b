//! The operands of attention: their sizes for the routes, their addresses for the kernels.

use bytemuck::{Pod, Zeroable};
use ggrs_core::TensorDesc;
use ggrs_core::ops::{Attention, Visibility};

use crate::driver::DevicePtr;
use crate::kernel::{Args, Request};
use crate::kernels::axes::Divisor;
use crate::params::{FaultCell, View};
use crate::planes::Planes;

/// `AttentionParams` of `attention.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct AttentionParams {
    q: View,
    k: View,
    v: View,
    mask: View,
    out: View,
    key_planes: Planes,
    value_planes: Planes,
    positions: u64,
    slots: u64,
    table: u64,
    sinks: u64,
    partial_stats: u64,
    partial_sums: u64,
    counters: u64,
    faults: [FaultCell; 3],
    scale: f32,
    softcap: f32,
    visibility: i32,
    block: Divisor,
    n_slots: i32,
    n_pages: i32,
    window: i32,
    group: i32,
    n_splits: i32,
    has_all_splits: i32,
    whole_keys: i32,
    tile_tokens: i32,
}

const _: () = assert!(size_of::<AttentionParams>() == 616);

/// Sizes of the operands, of dense and paged ones alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batches: usize,
    pub(super) tokens: usize,
    pub(super) heads: usize,
    pub(super) key_heads: usize,
    pub(super) key_width: usize,
    pub(super) value_width: usize,
    /// The most keys that a token may see.
    pub(super) reach: usize,
}

fn from_end(desc: &TensorDesc, i: usize) -> usize {
    let sizes = desc.shape.sizes();
    let at = sizes.len().checked_sub(i + 1);
    at.and_then(|at| sizes.get(at)).copied().unwrap_or(1)
}

impl Sizes {
    pub(super) fn of(op: &Attention, request: &Request<'_>) -> Self {
        let (q, k, v) = (request.input(0), request.input(1), request.input(2));
        let (batches, reach) = match op.visibility {
            Visibility::Full | Visibility::Mask => (from_end(&q, 3), from_end(&k, 2)),
            Visibility::Paged { block, window } => {
                let positions = from_end(&request.input(5), 0).saturating_mul(block);
                (1, window.map_or(positions, |window| positions.min(window)))
            }
        };
        Self {
            batches,
            tokens: from_end(&q, 2),
            heads: from_end(&q, 1),
            key_heads: from_end(&k, 1),
            key_width: from_end(&q, 0),
            value_width: from_end(&v, 0),
            reach,
        }
    }

    /// Query heads of a key head.
    pub(super) fn group(&self) -> usize {
        self.heads.checked_div(self.key_heads).unwrap_or(0)
    }

    /// Rows of the result.
    pub(super) const fn rows(&self) -> usize {
        (self.batches.saturating_mul(self.tokens)).saturating_mul(self.heads)
    }
}

/// How many splits of the keys there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Splits(pub(super) usize);

/// What `attention_combine` has room for.
const MAX_SPLITS: usize = 256;

/// `KEYS_AT_A_TIME`: a split has at least so many.
const KEYS_AT_A_TIME: usize = 128;

impl Splits {
    /// As many as it takes for so many blocks, where `pieces` blocks do for one split.
    pub(super) fn for_blocks(wanted: usize, pieces: usize, reach: usize) -> Self {
        let count = wanted.checked_div(pieces).unwrap_or(1);
        let most = reach.div_ceil(KEYS_AT_A_TIME).clamp(1, MAX_SPLITS);
        Self(count.clamp(1, most))
    }

    /// Bytes of the largest scores and sums of weights, and of those with the sums of values.
    pub(super) const fn bytes(self, sizes: &Sizes) -> (u64, u64) {
        if self.0 == 1 {
            return (0, 0);
        }
        let rows = (sizes.rows() as u64).saturating_mul(self.0 as u64);
        let stats = rows.saturating_mul(8).next_multiple_of(256);
        let sums = rows.saturating_mul(4 * sizes.value_width as u64);
        (stats, stats.saturating_add(sums))
    }
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl AttentionParams {
    /// The same for a kernel of which every split leaves a result.
    pub(super) const fn with_all_splits(mut self) -> Self {
        self.has_all_splits = 1;
        self
    }

    /// The same for prefill in tiles of so many tokens that leaves those of many runs to decode, and for that.
    pub(super) fn with_tile_tokens(mut self, n: usize) -> Self {
        self.tile_tokens = number(n);
        self
    }

    /// The same for a kernel that does not split so few keys.
    pub(super) fn with_whole_keys(mut self, n: usize) -> Self {
        self.whole_keys = number(n);
        self
    }

    /// The operands in memory. The mask, positions and so on are those that the visibility asks for.
    pub(super) fn new(op: &Attention, args: &Args<'_>, sizes: &Sizes, splits: Splits) -> Self {
        let mut p = Self::zeroed();
        (p.q, p.k, p.v, p.out) = (args.input(0), args.input(1), args.input(2), args.output(0));
        (p.key_planes, p.value_planes) = (args.planes(1), args.planes(2));
        p.scale = op.scale.0;
        p.softcap = op.softcap.map_or(0.0, |cap| cap.0);
        p.group = number(sizes.group());
        if op.sinks {
            p.sinks = args.input(args.inputs.len().saturating_sub(1)).data;
        }
        match op.visibility {
            Visibility::Full => {}
            Visibility::Mask => {
                p.visibility = 1;
                p.mask = args.input(3);
            }
            Visibility::Paged { block, window } => {
                let table = args.input(5);
                let [.., n_slots, n_pages] = table.size;
                p.visibility = 2;
                p.positions = args.input(3).data;
                p.slots = args.input(4).data;
                p.table = table.data;
                (p.n_slots, p.n_pages) = (n_slots, n_pages);
                p.block = Divisor::new(block as u64);
                p.window = window.map_or(0, number);
                p.faults = [args.cell(0), args.cell(1), args.cell(2)];
            }
        }
        p.n_splits = number(splits.0);
        let (stats, _) = splits.bytes(sizes);
        let DevicePtr(scratch) = args.scratch;
        p.counters = args.counters.0;
        (p.partial_stats, p.partial_sums) = (scratch, scratch.wrapping_add(stats));
        p
    }
}
