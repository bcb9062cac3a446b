//! Softmax over the last axis, with scale, mask and sinks.

use bytemuck::{Pod, Zeroable};
use ggrs_core::Unsupported;
use ggrs_core::ops::Softmax;

use super::axes::{Axes, THREADS, Walk, strides};
use crate::kernel::{Choice, Launch, ModuleKey, Request};

/// `SoftmaxParams` of `softmax.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SoftmaxParams {
    rows: Axes,
    x: u64,
    mask: u64,
    sinks: u64,
    out: u64,
    dtype: i32,
    mask_dtype: i32,
    width: i32,
    scale: f32,
}

const _: () = assert!(size_of::<SoftmaxParams>() == 240);

const MODULE: ModuleKey = ModuleKey::plain("softmax");

/// Widths from which on a block has a row.
const WIDE: u32 = 512;

/// `softmax(scale * x + mask)`, with an optional sink for each head.
pub(crate) fn softmax(op: &Softmax, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (scale, masked, sunk) = (op.scale.0, op.mask, op.sinks);
    let warp = request.facts.warp.max(1);
    let is_wide = request.input(0).shape.last().bound() >= WIDE as usize;
    let reason = if is_wide {
        "a block for each row"
    } else {
        "a warp for each row"
    };
    Ok(Choice::new("softmax/rows", reason, move |args| {
        let (x, out) = (args.input(0), args.output(0));
        if out.elems() == 0 {
            return Vec::new();
        }
        let mask = masked.then(|| args.input(1));
        let sinks = sunk.then(|| args.input(1 + usize::from(masked)));
        let mut sizes = x.size.map(|n| u64::from(n.unsigned_abs()));
        sizes[4] = 1;
        // There is a sink for each of the third axis from the end.
        let of_sinks = [0, 0, 1, 0, 0];
        let of_mask = mask.as_ref().map_or([0; 5], strides);
        let params = SoftmaxParams {
            rows: Walk::new(&sizes, [strides(&x), of_mask, of_sinks]).axes(),
            x: x.data,
            mask: mask.map_or(0, |m| m.data),
            sinks: sinks.map_or(0, |s| s.data),
            out: out.data,
            dtype: x.dtype,
            mask_dtype: mask.map_or(x.dtype, |m| m.dtype),
            width: x.size[4],
            scale,
        };
        vec![launch(is_wide, warp, &params)]
    }))
}

fn launch(is_wide: bool, warp: u32, params: &SoftmaxParams) -> Launch {
    let (kernel, blocks, threads) = if is_wide {
        ("softmax_block", params.rows.blocks(1), 512)
    } else {
        let blocks = params.rows.blocks(THREADS / warp);
        ("softmax_warp", blocks, THREADS)
    };
    Launch::new(MODULE, kernel, blocks, threads, params)
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![MODULE]
}
