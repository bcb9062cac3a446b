//! Attention over paged caches on matrix units: one kernel for a few tokens, one for many.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{Attention, Visibility};
use ggrs_core::{DType, TensorDesc};

use super::params::{AttentionParams, Sizes, Splits};
use super::{combine, matrix_module};
use crate::kernel::{Args, Choice, Launch, Request};
use crate::kernels::qk_prep::QkPrep;

/// Dtypes of keys and values that the kernels are built for.
pub(super) const DTYPES: [DType; 3] = [DType::F16, DType::BF16, DType::Q8_0];

/// Widths of heads that the kernels are built for.
pub(super) const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// Up to so many tokens every token has blocks of its own; more share them, and the keys that the blocks read.
const FEW_TOKENS: usize = 16;

/// Up to so many tokens, each may well be of a slot of its own.
const MOST_MIXED: usize = 256;

/// Query heads of a block of `attention_decode`.
const DECODE_HEADS: usize = 8;

/// Threads of a block of `attention_decode`.
const DECODE_THREADS: u32 = 256;

/// How `attention_prefill` is built for a width: threads, rows and keys of a block.
struct Tile {
    threads: u32,
    rows: usize,
    keys: usize,
}

impl Tile {
    const fn new(width: usize) -> Self {
        match width {
            256 => Self {
                threads: 128,
                rows: 64,
                keys: 32,
            },
            512 => Self {
                threads: 256,
                rows: 64,
                keys: 32,
            },
            _ => Self {
                threads: 256,
                rows: 128,
                keys: 64,
            },
        }
    }

    /// Bytes of shared memory.
    const fn shared_bytes(&self, width: usize) -> u32 {
        let elems = 2 * width * (self.rows + 4 * self.keys);
        let tokens = 12 * self.rows + (self.rows / 32 * 4).next_multiple_of(16);
        (elems + 8 * self.keys + tokens) as u32
    }
}

/// Bytes of shared memory of `attention_decode`.
const fn decode_shared_bytes(width: usize) -> u32 {
    let teams = if width > 128 { 8 * 128 / width } else { 8 };
    (16 * (width + 32) + 8256 + teams * (64 + 32 * (width + 4))) as u32
}

/// Keys that one block of `attention_decode` works through in the time that splits take to meet.
const fn whole_keys(width: usize) -> usize {
    match width {
        64 => 512,
        128 => 384,
        256 => 256,
        _ => 128,
    }
}

/// Can rows be read sixteen bytes at a time, or block by block?
fn is_aligned(desc: &TensorDesc) -> bool {
    let unit = desc.dtype.block_elems().max(8);
    let layout = &desc.layout;
    let [cells, heads, ..] = layout.strides() else {
        return false;
    };
    let row_bytes = desc.elem_bytes(*cells).unwrap_or(usize::MAX);
    [layout.offset(), *cells, *heads]
        .iter()
        .all(|n| n.is_multiple_of(unit))
        && u32::try_from(row_bytes).is_ok()
}

/// Why the matrix units cannot do it, if they cannot.
fn obstacle(op: &Attention, request: &Request<'_>, sizes: &Sizes) -> Option<&'static str> {
    let (k, v) = (request.input(1), request.input(2));
    let checks = [
        (request.is_exact(), "the plan is exact"),
        (
            !request.facts.has_matrix_units || request.facts.warp != 32,
            "no matrix units",
        ),
        (
            !matches!(op.visibility, Visibility::Paged { .. }),
            "keys are not paged",
        ),
        (
            k.dtype != v.dtype || !DTYPES.contains(&k.dtype),
            "no matrix units for this dtype of keys or values",
        ),
        (
            sizes.key_width != sizes.value_width || !WIDTHS.contains(&sizes.key_width),
            "heads of another width",
        ),
        (
            request.is_packed(1) || request.is_packed(2),
            "keys or values are in planes",
        ),
        (!is_aligned(&k) || !is_aligned(&v), "rows are not aligned"),
    ];
    checks
        .into_iter()
        .find(|(is_so, _)| *is_so)
        .map(|(_, why)| why)
}

/// Attention on matrix units, or why not.
pub(super) fn matrix(
    op: &Attention,
    request: &Request<'_>,
    sizes: Sizes,
) -> Result<Choice, &'static str> {
    if let Some(why) = obstacle(op, request, &sizes) {
        return Err(why);
    }
    let dtype = request.input(1).dtype;
    if sizes.tokens <= FEW_TOKENS {
        return Ok(decode(op, request, sizes, dtype));
    }
    let tile = Tile::new(sizes.key_width);
    if sizes.group() > tile.rows {
        return Err("too many query heads for each key head");
    }
    if tile.shared_bytes(sizes.key_width) > request.facts.shared_bytes {
        return Err("not enough shared memory");
    }
    Ok(prefill(op, request, sizes, tile, dtype))
}

/// `PreparedAttention` of `attention_decode.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PreparedAttention {
    attention: AttentionParams,
    heads: QkPrep,
}

const _: () = assert!(size_of::<PreparedAttention>() == 1888);

/// Blocks and splits of `attention_decode`.
#[derive(Clone, Copy)]
pub(super) struct Decode {
    sizes: Sizes,
    /// Blocks for each token and split.
    tiles: usize,
    splits: Splits,
    dtype: DType,
}

impl Decode {
    fn new(request: &Request<'_>, sizes: Sizes, dtype: DType) -> Self {
        let tiles = sizes.key_heads * sizes.group().div_ceil(DECODE_HEADS);
        let wanted = request.facts.n_multiprocessors as usize;
        Self {
            sizes,
            tiles,
            splits: Splits::for_blocks(wanted, tiles * sizes.tokens, sizes.reach),
            dtype,
        }
    }

    /// The launch for one token, if the matrix units take it.
    pub(super) fn of_one_token(
        op: &Attention,
        request: &Request<'_>,
        sizes: Sizes,
    ) -> Option<Self> {
        let takes = sizes.tokens == 1 && obstacle(op, request, &sizes).is_none();
        takes.then(|| Self::new(request, sizes, request.input(1).dtype))
    }

    /// Why it is chosen.
    pub(super) fn reason(&self) -> String {
        let n = self.splits.0;
        format!("matrix units for each token, keys in up to {n} parts")
    }

    /// Working memory.
    pub(super) const fn scratch_bytes(&self) -> u64 {
        self.splits.bytes(&self.sizes).1
    }

    /// Counters that the launch needs.
    pub(super) const fn counters(&self) -> usize {
        self.tiles * self.sizes.tokens
    }

    /// The launch: of all tokens, or of those that `attention_prefill` leaves in tiles of so many.
    fn launch(&self, op: &Attention, args: &Args<'_>, tile_tokens: usize) -> Launch {
        let p = self.params(op, args).with_tile_tokens(tile_tokens);
        self.launch_of("attention_decode", &p)
    }

    /// The launch that makes the heads of its one token ready itself.
    pub(super) fn launch_with(&self, op: &Attention, args: &Args<'_>, heads: QkPrep) -> Launch {
        let p = PreparedAttention {
            attention: self.params(op, args),
            heads,
        };
        self.launch_of("attention_decode_heads", &p)
    }

    fn params(&self, op: &Attention, args: &Args<'_>) -> AttentionParams {
        AttentionParams::new(op, args, &self.sizes, self.splits)
            .with_whole_keys(whole_keys(self.sizes.key_width))
    }

    fn launch_of<P: Pod>(&self, kernel: &'static str, p: &P) -> Launch {
        let width = self.sizes.key_width;
        let module = matrix_module("attention_decode", width, self.dtype);
        Launch::new(module, kernel, self.splits.0 as u32, DECODE_THREADS, p)
            .deep(self.tiles as u32, self.sizes.tokens as u32)
            .shared(decode_shared_bytes(width))
    }
}

fn decode(op: &Attention, request: &Request<'_>, sizes: Sizes, dtype: DType) -> Choice {
    let decode = Decode::new(request, sizes, dtype);
    let reason = decode.reason();
    let op = op.clone();
    let build = move |args: &Args<'_>| {
        if args.output(0).elems() == 0 {
            return vec![];
        }
        vec![decode.launch(&op, args, 0)]
    };
    Choice::new("attention/decode", reason, build)
        .scratch(decode.scratch_bytes())
        .counters(decode.counters())
}

fn prefill(
    op: &Attention,
    request: &Request<'_>,
    sizes: Sizes,
    tile: Tile,
    dtype: DType,
) -> Choice {
    let tokens = tile.rows / sizes.group().max(1);
    let blocks = sizes.tokens.div_ceil(tokens) * sizes.key_heads;
    let wanted = request.facts.n_multiprocessors as usize;
    // A walk has a few tiles at least.
    let splits = Splits::for_blocks(wanted, blocks, sizes.reach / 2);
    // Tokens of many slots are the business of the other kernel, in a second launch.
    let rest = (sizes.tokens <= MOST_MIXED).then(|| Decode::new(request, sizes, dtype));
    let reason = format!(
        "matrix units for {tokens} tokens with {} heads, keys in {} parts",
        sizes.group(),
        splits.0
    );
    let (op, width) = (op.clone(), sizes.key_width);
    let build = move |args: &Args<'_>| {
        if args.output(0).elems() == 0 {
            return vec![];
        }
        let tile_tokens = if rest.is_some() { tokens } else { 0 };
        let p = AttentionParams::new(&op, args, &sizes, splits)
            .with_all_splits()
            .with_tile_tokens(tile_tokens);
        let module = matrix_module("attention_prefill", width, dtype);
        let parts = Launch::new(module, "attention_prefill", blocks as u32, tile.threads, &p)
            .deep(splits.0 as u32, 1)
            .shared(tile.shared_bytes(width));
        let mut launches = vec![parts];
        // What it makes of the rows that were left out is written over.
        launches.extend(combine(splits, &sizes, &p));
        launches.extend(rest.map(|rest| rest.launch(&op, args, tokens)));
        launches
    };
    let scratch = rest.map_or(0, |rest| rest.scratch_bytes());
    Choice::new("attention/prefill", reason, build)
        .scratch(scratch.max(splits.bytes(&sizes).1))
        .counters(rest.map_or(0, |rest| rest.counters()))
}
