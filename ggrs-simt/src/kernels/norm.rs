//! Norms over the last axis: a warp or a block for each row.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{AddRmsNorm, L2Norm, LayerNorm, RmsNorm};
use ggrs_core::{DType, Unsupported};

use super::axes::{Axes, Place, THREADS, Walk};
use crate::kernel::{Args, Choice, Launch, ModuleKey, Request};
use crate::params::View;

/// `NormParams` of `norm.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct NormParams {
    rows: Axes,
    x: u64,
    addend: u64,
    weight: u64,
    sum: u64,
    out: u64,
    dtype: i32,
    width: i32,
    kind: i32,
    eps: f32,
    is_constant: i32,
    pad: i32,
}

const _: () = assert!(size_of::<NormParams>() == 256);

const MODULE: ModuleKey = ModuleKey::plain("norm");

/// `NormKind` of `norm.cu`.
const RMS: i32 = 0;
const LENGTH: i32 = 1;
const DEVIATION: i32 = 2;

/// Elements of a row that a thread keeps, at most: 4 fours.
const KEPT: u32 = 16;

/// The most threads that share a row.
const MAX_THREADS: u32 = 1024;

/// What of a norm does not depend on where its tensors lie.
#[derive(Clone, Copy)]
struct Norm {
    kind: i32,
    eps: f32,
    /// Which operand is the weight, and does no launch write it?
    weight: Option<(usize, bool)>,
    /// Is operand 1 added first, with the sum as result 0?
    adds: bool,
    warp: u32,
    n_multiprocessors: u32,
}

impl Norm {
    fn new(kind: i32, eps: f32, request: &Request<'_>) -> Self {
        Self {
            kind,
            eps,
            weight: None,
            adds: false,
            warp: request.facts.warp.max(1),
            n_multiprocessors: request.facts.n_multiprocessors,
        }
    }

    fn weighted(mut self, operand: usize, request: &Request<'_>) -> Self {
        self.weight = Some((operand, request.operands.form(operand).is_some()));
        self
    }

    fn choice(self, name: &'static str) -> Choice {
        let reason = "rows are kept in registers if they are F32, aligned and not too wide";
        Choice::new(name, reason, move |args| self.launches(args))
    }

    fn launches(&self, args: &Args<'_>) -> Vec<Launch> {
        let (x, out) = (args.input(0), args.output(usize::from(self.adds)));
        if out.elems() == 0 {
            return Vec::new();
        }
        let addend = self.adds.then(|| args.input(1));
        let sum = self.adds.then(|| args.output(0));
        let weight = self.weight.map(|(operand, _)| args.input(operand));
        let walk = Walk::rows(&x, [Some(&x), addend.as_ref(), None]);
        let data = |view: &Option<View>| view.map_or(0, |v| v.data);
        let params = NormParams {
            rows: walk.axes(),
            x: x.data,
            addend: data(&addend),
            weight: data(&weight),
            sum: data(&sum),
            out: out.data,
            dtype: x.dtype,
            width: x.size[4],
            kind: self.kind,
            eps: self.eps,
            is_constant: self.weight.is_some_and(|(_, constant)| constant).into(),
            pad: 0,
        };
        let mut read = vec![place(0, &x)];
        read.extend(addend.as_ref().map(|b| place(1, b)));
        let whole = [sum, weight, Some(out)];
        let aligned = whole.iter().flatten().all(|v| v.data % 16 == 0);
        let fours = aligned && x.dtype == DType::F32 as i32 && {
            // Rows in steps of four: where the elements are found is the same.
            let walk = Walk::elements(&x, [Some(&x), addend.as_ref(), None]);
            x.width() % 4 == 0 && walk.in_steps(4, &read).is_some()
        };
        let (kernel, blocks, threads) = self.geometry(&params.rows, x.width(), fours);
        vec![Launch::new(MODULE, kernel, blocks, threads, &params)]
    }

    fn geometry(&self, rows: &Axes, width: u32, fours: bool) -> (&'static str, u32, u32) {
        if !fours || width > KEPT * MAX_THREADS {
            return ("norm_any", rows.blocks(1), THREADS);
        }
        let many = rows.n() >= u64::from(self.n_multiprocessors);
        let by_warps = rows.blocks(THREADS / self.warp);
        if width <= 4 * self.warp {
            return ("norm_warp_1", by_warps, THREADS);
        }
        if width <= KEPT * self.warp && many {
            return ("norm_warp_4", by_warps, THREADS);
        }
        // One four for each thread is the fastest for a row alone; for many rows fewer warps wait for each other.
        let by_ones = width.div_ceil(4).next_multiple_of(self.warp);
        if by_ones <= MAX_THREADS && !many {
            return ("norm_block_1", rows.blocks(1), by_ones);
        }
        let threads = width.div_ceil(8).min(MAX_THREADS);
        (
            "norm_block_4",
            rows.blocks(1),
            threads.next_multiple_of(self.warp),
        )
    }
}

fn place(tensor: usize, view: &View) -> Place {
    Place {
        tensor,
        data: view.data,
        bytes: 4,
    }
}

/// `x / sqrt(mean(x^2) + eps)`, times a weight if there is one.
pub(crate) fn rms_norm(op: &RmsNorm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let mut norm = Norm::new(RMS, op.eps.0, request);
    if op.weighted {
        norm = norm.weighted(1, request);
    }
    Ok(norm.choice("rms_norm/rows"))
}

/// `(x - mean(x)) / sqrt(var(x) + eps)`.
pub(crate) fn layer_norm(op: &LayerNorm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(Norm::new(DEVIATION, op.eps.0, request).choice("layer_norm/rows"))
}

/// `x / max(sqrt(sum(x^2)), eps)`.
pub(crate) fn l2_norm(op: &L2Norm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(Norm::new(LENGTH, op.eps.0, request).choice("l2_norm/rows"))
}

/// Two results: `a + b` and its weighted RMS norm.
pub(crate) fn add_rms_norm(op: &AddRmsNorm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let mut norm = Norm::new(RMS, op.eps.0, request).weighted(2, request);
    norm.adds = true;
    Ok(norm.choice("add_rms_norm/rows"))
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![MODULE]
}
