//! Attention over dense keys and over paged caches.
//!
//! Positions, slots and pages are data: launches are sized for the most keys that a token may see, and blocks that
//! find nothing to do end at once. Where there are few tokens, their keys are split over many blocks, and a second
//! launch puts the splits together.

mod matrix;
mod params;

use ggrs_core::ops::{Attention, Visibility};
use ggrs_core::{DType, Unsupported};

use self::matrix::Decode;
use self::params::{AttentionParams, Sizes, Splits};
use super::qk_prep::QkPrep;
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request};

/// `softmax(scale * q k^T + ..) v` with grouped heads.
pub(crate) fn attention(op: &Attention, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let sizes = Sizes::of(op, request);
    let choice =
        matrix::matrix(op, request, sizes).unwrap_or_else(|why| generic(op, request, sizes, why));
    Ok(with_faults(choice, op, request))
}

fn with_faults(choice: Choice, op: &Attention, request: &Request<'_>) -> Choice {
    let faults = faults(op, request);
    faults.into_iter().fold(choice, Choice::fault)
}

/// What a paged cache may find wrong, in the order of the parameter block.
fn faults(op: &Attention, request: &Request<'_>) -> Vec<FaultKind> {
    let Visibility::Paged { block, .. } = op.visibility else {
        return Vec::new();
    };
    let (cache, table) = (request.input(1), request.input(5));
    let size = |desc: &ggrs_core::TensorDesc, axis: usize| {
        desc.shape.sizes().get(axis).copied().unwrap_or(0)
    };
    [
        ("slots", size(&table, 0)),
        ("positions", size(&table, 1).saturating_mul(block)),
        ("page table", size(&cache, 0).div_ceil(block.max(1))),
    ]
    .map(|(role, bound)| FaultKind::IndexOutOfRange { role, bound })
    .to_vec()
}

/// Attention of one token whose queries, keys and values are made ready in the same launch.
pub(crate) struct DecodeHeads {
    decode: Decode,
    op: Attention,
    pub(crate) reason: String,
    pub(crate) scratch_bytes: u64,
    pub(crate) n_counters: usize,
    pub(crate) faults: Vec<FaultKind>,
}

impl DecodeHeads {
    /// The launch for an attention, if matrix units take it.
    pub(crate) fn new(op: &Attention, request: &Request<'_>) -> Option<Self> {
        let sizes = Sizes::of(op, request);
        let decode = Decode::of_one_token(op, request, sizes)?;
        Some(Self {
            decode,
            op: op.clone(),
            reason: decode.reason(),
            scratch_bytes: decode.scratch_bytes(),
            n_counters: decode.counters(),
            faults: faults(op, request),
        })
    }

    /// The launch over the attention's memory; queries are those of `heads`.
    pub(crate) fn launch(&self, heads: QkPrep, args: &Args<'_>) -> Launch {
        self.decode.launch_with(&self.op, args, heads)
    }
}

/// Threads of a block of `attention_generic`.
const GENERIC_THREADS: u32 = 128;

/// Everything, in F32.
fn generic(op: &Attention, request: &Request<'_>, sizes: Sizes, why: &str) -> Choice {
    let wanted = 4 * request.facts.n_multiprocessors as usize;
    let splits = Splits::for_blocks(wanted, sizes.rows(), sizes.reach);
    let reason = format!("{why}; keys in up to {} parts", splits.0);
    let op = op.clone();
    let build = move |args: &Args<'_>| {
        if args.output(0).elems() == 0 {
            return vec![];
        }
        let p = AttentionParams::new(&op, args, &sizes, splits);
        let module = ModuleKey::plain("attention_generic");
        let rows = sizes.rows() as u32;
        let parts = Launch::new(module, "attention_generic", rows, GENERIC_THREADS, &p)
            .deep(splits.0 as u32, 1);
        let mut launches = vec![parts];
        launches.extend(combine(splits, &sizes, &p));
        launches
    };
    Choice::new("attention/generic", reason, build).scratch(splits.bytes(&sizes).1)
}

/// Threads of a block of `attention_combine`.
const COMBINE_THREADS: u32 = 128;

/// The launch that puts splits together, if there are any.
fn combine(splits: Splits, sizes: &Sizes, p: &AttentionParams) -> Option<Launch> {
    let module = ModuleKey::plain("attention_combine");
    let rows = sizes.rows() as u32;
    (splits.0 > 1).then(|| Launch::new(module, "attention_combine", rows, COMBINE_THREADS, p))
}

/// A build of a kernel for matrix units.
fn matrix_module(file: &'static str, width: usize, dtype: DType) -> ModuleKey {
    ModuleKey::plain(file)
        .with("HEAD", width.to_string())
        .with("KV", dtype.name())
}

/// Modules of all kernels of attention.
pub(crate) fn modules() -> Vec<ModuleKey> {
    let mut modules = vec![
        ModuleKey::plain("attention_generic"),
        ModuleKey::plain("attention_combine"),
    ];
    for width in matrix::WIDTHS {
        for dtype in matrix::DTYPES {
            modules.push(matrix_module("attention_decode", width, dtype));
            modules.push(matrix_module("attention_prefill", width, dtype));
        }
    }
    modules
}
