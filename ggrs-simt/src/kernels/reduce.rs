//! Sums and means along an axis, running sums along the last.

use bytemuck::{Pod, Zeroable};
use ggrs_core::Unsupported;
use ggrs_core::ops::{OpSpec, Reduce, ReduceKind};

use super::axes::{Axes, Place, THREADS, Walk};
use crate::kernel::{Args, Choice, Launch, ModuleKey, Request};
use crate::params::View;

/// `ReduceParams` of `reduce.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ReduceParams {
    axes: Axes,
    x: u64,
    out: u64,
    stride: i64,
    size: i32,
    factor: f32,
}

/// `RunningParams` of `reduce.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RunningParams {
    rows: Axes,
    x: u64,
    out: u64,
    width: i32,
    pad: i32,
}

const _: () = assert!(size_of::<ReduceParams>() == 224);
const _: () = assert!(size_of::<RunningParams>() == 216);

const MODULE: ModuleKey = ModuleKey::plain("reduce");

/// Results from which on a thread for each fills the device, whatever it has to add up.
const MANY: u64 = 1 << 14;

/// Elements up to which one thread adds up faster than several do.
const FEW: u32 = 16;

/// Elements from which on a block adds up.
const WIDE: u32 = 2048;

/// Threads of a block that adds up a row.
const ROW_THREADS: u32 = 512;

/// Sum or mean along an axis.
pub(crate) fn reduce(op: &Reduce, request: &Request<'_>) -> Result<Choice, Unsupported> {
    // Views have five axes.
    let axis = (op.axis + 5).saturating_sub(request.input(0).rank());
    let (is_mean, warp) = (op.kind == ReduceKind::Mean, request.facts.warp.max(1));
    let name = format!("{}/any", op.stem());
    let reason = "a thread, a warp or a block for each result";
    Ok(Choice::new(name, reason, move |args| {
        add_up(axis, is_mean, warp, args)
    }))
}

fn add_up(axis: usize, is_mean: bool, warp: u32, args: &Args<'_>) -> Vec<Launch> {
    let (x, out) = (args.input(0), args.output(0));
    let (Some(&size), Some(&stride)) = (x.size.get(axis), x.stride.get(axis)) else {
        return Vec::new();
    };
    if out.elems() == 0 {
        return Vec::new();
    }
    let walk = Walk::elements(&out, [Some(&x), Some(&out), None]);
    let place = |tensor, view: &View| Place {
        tensor,
        data: view.data,
        bytes: 4,
    };
    let params = |walk: &Walk| ReduceParams {
        axes: walk.axes(),
        x: x.data,
        out: out.data,
        stride,
        size,
        factor: if is_mean { 1.0 / size as f32 } else { 1.0 },
    };
    let n = size.unsigned_abs();
    if n <= FEW || (axis < 4 && out.elems() >= MANY) {
        let steps = walk.in_steps(4, &[place(0, &x), place(1, &out)]);
        let (kernel, walk) = match steps.filter(|_| stride % 4 == 0 || size < 2) {
            Some(steps) => ("reduce_each_4", steps),
            None => ("reduce_each_1", walk),
        };
        let params = params(&walk);
        return vec![params.axes.launch(MODULE, kernel, &params)];
    }
    let params = params(&walk);
    let (kernel, blocks, threads) = if n < WIDE {
        ("reduce_warp", params.axes.blocks(THREADS / warp), THREADS)
    } else {
        ("reduce_block", params.axes.blocks(1), ROW_THREADS)
    };
    vec![Launch::new(MODULE, kernel, blocks, threads, &params)]
}

/// Running sums along the rows.
pub(crate) fn cumsum(_: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(Choice::new("cumsum/row", "a block for each row", |args| {
        let (x, out) = (args.input(0), args.output(0));
        if out.elems() == 0 {
            return Vec::new();
        }
        let params = RunningParams {
            rows: Walk::rows(&x, [Some(&x), None, None]).axes(),
            x: x.data,
            out: out.data,
            width: x.size[4],
            pad: 0,
        };
        // Whole warps, of either width.
        let threads = x.width().next_multiple_of(64).min(ROW_THREADS);
        let blocks = params.rows.blocks(1);
        vec![Launch::new(
            MODULE,
            "running_sums",
            blocks,
            threads,
            &params,
        )]
    }))
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![MODULE]
}
