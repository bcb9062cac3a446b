//! How attention is cut into pieces for a machine, and its working memory.

use ggrs_core::Unsupported;
use ggrs_core::error::RefusalReason;
use ggrs_core::ops::{Attention, Visibility};

use super::kernel::{AttentionKernel, Cut};
use super::keys::{Keys, Pages};
use super::space::Sizes;
use super::unit::Operands;
use crate::kernel::{Args, Choice, Request, refuse};
use crate::math::can_gather;
use crate::view::ScratchLayout;

const KERNEL: &str = "attention/blocks";

/// Rows that a piece should have, so that a block of keys is read once for many queries, and everything stays in the
/// second cache: more rows for narrow heads than for wide ones.
const fn rows_wanted(key_width: usize) -> usize {
    if key_width <= 128 { 128 } else { 64 }
}

/// A thread should get this many pieces, so that the last one to finish keeps the others waiting but shortly.
const PIECES_PER_THREAD: usize = 2;

/// Fewer keys are not worth a share of their own.
const KEYS_PER_SPLIT: usize = 512;

/// Sizes of the operands, of dense and paged ones alike.
struct Extents {
    n_batches: usize,
    n_tokens: usize,
    n_kv_heads: usize,
    /// The most keys that a token may see.
    reach: usize,
}

fn cut(extents: &Extents, sizes: &Sizes, n_threads: usize) -> Cut {
    let tokens =
        (rows_wanted(sizes.key_width) / sizes.group.max(1)).clamp(1, extents.n_tokens.max(1));
    let n_blocks = extents.n_batches * extents.n_tokens.div_ceil(tokens);
    let wanted = PIECES_PER_THREAD * n_threads;
    if n_blocks >= wanted || n_threads == 1 {
        return Cut {
            tokens,
            splits: None,
        };
    }
    let n_pieces = (n_blocks * extents.n_kv_heads).max(1);
    let splits = wanted
        .div_ceil(n_pieces)
        .min(extents.reach.div_ceil(KEYS_PER_SPLIT));
    Cut {
        tokens,
        splits: Some(splits.max(1)),
    }
}

/// `softmax(scale * q k^T + ..) v` with grouped heads.
pub(crate) fn attention(op: &Attention, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (q, k, v) = (request.input(0), request.input(1), request.input(2));
    for (role, dtype) in [("keys", k.dtype), ("values", v.dtype)] {
        if !can_gather(dtype) {
            return Err(refuse(KERNEL, RefusalReason::DType { role, dtype }));
        }
    }
    let from_end = |desc: &ggrs_core::TensorDesc, i: usize| {
        let sizes = desc.shape.sizes();
        sizes
            .len()
            .checked_sub(i + 1)
            .and_then(|at| sizes.get(at))
            .copied()
            .unwrap_or(1)
    };
    let (n_heads, n_kv_heads) = (from_end(&q, 1), from_end(&k, 1));
    let n_tokens = from_end(&q, 2);
    let n_cells = from_end(&k, 2);
    let paged = matches!(op.visibility, Visibility::Paged { .. });
    let n_batches = if paged { 1 } else { from_end(&q, 3) };
    let mut sizes = Sizes {
        tokens: 1,
        group: n_heads.checked_div(n_kv_heads).unwrap_or(0),
        key_width: from_end(&q, 0),
        value_width: from_end(&v, 0),
    };
    let reach = match op.visibility {
        Visibility::Paged { block, window } => {
            let positions = from_end(&request.input(5), 0).saturating_mul(block);
            window.map_or(positions, |window| positions.min(window))
        }
        Visibility::Full | Visibility::Mask => n_cells,
    };
    let extents = Extents {
        n_batches,
        n_tokens,
        n_kv_heads,
        reach,
    };
    let cut = cut(&extents, &sizes, request.n_threads());
    sizes.tokens = cut.tokens;

    let mut scratch = ScratchLayout::new();
    let space = scratch.table(request.n_threads(), sizes.elems());
    let n_pieces = n_batches * n_kv_heads * n_tokens.div_ceil(cut.tokens);
    let n_partial = n_pieces.saturating_mul(cut.splits.unwrap_or(0));
    let row = sizes.rows().saturating_mul(2 + sizes.value_width);
    let partial = scratch.table(n_partial, row);

    let reason = match cut.splits {
        None => format!("{} rows at a time", sizes.rows()),
        Some(n) => format!("{} rows at a time, keys in {n} parts", sizes.rows()),
    };
    let (op, isa) = (op.clone(), request.isa());
    Ok(Choice::new(KERNEL, reason, scratch, move |args| {
        AttentionKernel {
            operands: operands(
                &op,
                args,
                (n_batches, n_tokens, n_heads, n_kv_heads, n_cells),
            ),
            sinks: op
                .sinks
                .then(|| args.input(args.inputs.len().saturating_sub(1))),
            out: args.output(0),
            n_batches,
            sizes,
            cut,
            space: args.table(space),
            partial: args.table(partial),
            isa,
        }
    }))
}

fn operands(
    op: &Attention,
    args: &Args<'_>,
    (n_batches, n_tokens, n_heads, n_kv_heads, n_cells): (usize, usize, usize, usize, usize),
) -> Operands {
    let (mask, keys) = match op.visibility {
        Visibility::Full => (None, Keys::Dense { n_keys: n_cells }),
        Visibility::Mask => (Some(args.input(3)), Keys::Dense { n_keys: n_cells }),
        Visibility::Paged { block, window } => (
            None,
            Keys::Paged(Box::new(Pages {
                positions: args.input(3),
                slots: args.input(4),
                table: args.input(5),
                block,
                window,
                n_cells,
            })),
        ),
    };
    Operands {
        q: args.input(0),
        k: args.input(1),
        v: args.input(2),
        mask: mask.map(|mask| mask.broadcast(&[n_batches, n_heads, n_tokens, n_cells])),
        mask_is_shared: mask.is_some_and(|mask| mask.grid().from_end(2) == 1),
        keys,
        n_tokens,
        n_heads,
        n_kv_heads,
        n_cells,
        scale: op.scale.0,
        softcap: op.softcap.map(|cap| cap.0),
    }
}
