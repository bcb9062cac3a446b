//! Experts of many tokens by matrix units: what is between the products and behind them travels in BF16, and nothing is
//! written between the second product and the sum but the experts' answers.
//!
//! `matmul_id_glu, matmul_id, mul, sum`, or the last three alone.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use ggrs_core::device::RouteRequest;
use ggrs_core::ops::{BinaryKind, Op, ReduceKind};
use ggrs_core::{DType, TensorDesc};

use super::{Stage, StageArgs, Walk};
use crate::kernel::{Args, Choice, Launch, ModuleKey, Operand, Request};
use crate::kernels::moe;
use crate::params::View;

/// `WeightedSum` of `weighted_sum.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct WeightedSum {
    answers: u64,
    weights: u64,
    out: u64,
    n_used: i32,
    width: i32,
    dtype: i32,
    pad: i32,
}

const _: () = assert!(size_of::<WeightedSum>() == 40);

const THREADS: u32 = 256;
/// Blocks along y.
const MAX_TOKENS: usize = 65_535;

pub(super) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("weighted_sum")]
}

/// A product of the stage: its kernel, and what it reads and writes.
struct Product {
    step: usize,
    choice: Choice,
    /// Which operand the activations are.
    operand: usize,
    x: TensorDesc,
    out: TensorDesc,
}

impl Product {
    /// By whatever kernel runs the step on its own.
    fn in_f32(walk: &Walk<'_>, step: usize, operand: usize) -> Option<Self> {
        Some(Self {
            step,
            choice: walk.choice(step)?,
            operand,
            x: walk.input_desc(step, operand)?.clone(),
            out: walk.output_desc(step, 0)?.clone(),
        })
    }

    /// By matrix units, written in BF16.
    fn in_bf16(walk: &Walk<'_>, step: usize, operand: usize) -> Option<Self> {
        let out = in_bf16(walk.output_desc(step, 0)?);
        let choice = walk.with_request(step, |request| {
            let operands = RouteRequest {
                outputs: &[&out],
                ..*request.operands
            };
            moe::by_matrix_units(&Request {
                operands: &operands,
                ..*request
            })
        })??;
        Some(Self {
            step,
            choice,
            operand,
            x: walk.input_desc(step, operand)?.clone(),
            out,
        })
    }

    /// Its launches over its step's memory, activations and result as they are described here.
    fn build(&self, args: &Args<'_>) -> Vec<Launch> {
        let mut inputs = args.inputs.to_vec();
        if let Some(x) = inputs.get_mut(self.operand) {
            x.desc = &self.x;
        }
        self.choice.build(&Args {
            inputs: &inputs,
            outputs: self.output(args).as_slice(),
            ..*args
        })
    }

    /// Its result in memory.
    fn output<'a>(&'a self, args: &Args<'a>) -> Option<Operand<'a>> {
        args.outputs.first().map(|o| Operand {
            desc: &self.out,
            ..*o
        })
    }
}

fn in_bf16(desc: &TensorDesc) -> TensorDesc {
    TensorDesc {
        dtype: DType::BF16,
        ..desc.clone()
    }
}

/// The products of the stage that begins at a step, in BF16 if matrix units take them.
fn products(walk: &Walk<'_>, at: usize) -> Option<Vec<Product>> {
    match walk.op(at)? {
        Op::MatMulId(_) => {
            let product = Product::in_bf16(walk, at, 1);
            Some(vec![product.or_else(|| Product::in_f32(walk, at, 1))?])
        }
        Op::MatMulIdGlu(_) => {
            let Op::MatMulId(_) = walk.op(at + 1)? else {
                return None;
            };
            let hidden = walk.output(at, 0)?;
            let is_between = walk.reads(at + 1, 1, hidden) && walk.is_inner(hidden, &(at..at + 2));
            let up = Product::in_bf16(walk, at, 2)?;
            let mut down = Product::in_bf16(walk, at + 1, 1)?;
            down.x = in_bf16(&down.x);
            is_between.then(|| vec![up, down])
        }
        _ => None,
    }
}

/// Are the two steps behind the product of step `down` the weighted sum of its answers, of which nobody outside of `steps`
/// reads anything else?
pub(super) fn adds_up(walk: &Walk<'_>, down: usize, steps: &Range<usize>) -> Option<bool> {
    let (mul_at, sum_at) = (down + 1, down + 2);
    let (Op::Binary(mul), Op::Reduce(sum)) = (walk.op(mul_at)?, walk.op(sum_at)?) else {
        return None;
    };
    let kinds = mul.kind == BinaryKind::Mul && sum.kind == ReduceKind::Sum && sum.axis == 1;
    let (answers, weighted) = (walk.output(down, 0)?, walk.output(mul_at, 0)?);
    let chained = walk.reads(mul_at, 0, answers) && walk.reads(sum_at, 0, weighted);
    let inner = walk.is_inner(answers, steps) && walk.is_inner(weighted, steps);
    Some(kinds && chained && inner)
}

/// The stage that begins at a step.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let products = products(walk, at)?;
    let down = products.last()?;
    let mul_at = down.step + 1;
    let steps = at..down.step + 3;
    let adds_up = adds_up(walk, down.step, &steps)?;
    let sizes = walk.sizes(mul_at, 0);
    let &[n_tokens, n_used, width] = &*sizes else {
        return None;
    };
    let fits = walk.is_plain_f32(mul_at, 0)
        && walk.is_plain_f32(mul_at, 1)
        && walk.sizes(mul_at, 1) == [n_tokens, n_used, 1]
        && width.is_multiple_of(4)
        && (1..=MAX_TOKENS).contains(&n_tokens)
        && width > 0;
    if !(adds_up && fits) {
        return None;
    }
    let (n_tokens, n_used) = (n_tokens as u32, i32::try_from(n_used).ok()?);
    Some(stage(
        steps,
        products,
        n_tokens,
        n_used,
        width.try_into().ok()?,
    ))
}

fn stage(
    steps: Range<usize>,
    products: Vec<Product>,
    n_tokens: u32,
    n_used: i32,
    width: i32,
) -> Stage {
    let routes: Vec<_> = products.iter().map(|p| p.choice.route()).collect();
    let names = routes.iter().map(|r| format!("{}+", r.kernel));
    let name = names.collect::<String>() + "weighted_sum";
    let reasons: Vec<_> = routes.iter().map(|r| &*r.reason).collect();
    let is_narrow = products.iter().all(|p| p.out.dtype == DType::BF16);
    let reason = format!(
        "{}; answers{} are weighted and added up in one pass",
        reasons.join("; "),
        if is_narrow { " in BF16" } else { "" },
    );
    let scratch = routes.iter().map(|r| r.scratch_bytes).max().unwrap_or(0);
    let faults: Vec<_> = products
        .iter()
        .flat_map(|p| p.choice.faults().iter().map(|kind| (p.step, *kind)))
        .collect();
    let build = move |args: &StageArgs<'_>| {
        let mut cells = args.cells;
        let mut all = Vec::new();
        let mut answers: Option<View> = None;
        for (product, step) in products.iter().zip(args.steps) {
            let n_cells = product.choice.faults().len();
            let (own, rest) = cells.split_at_checked(n_cells).unwrap_or_default();
            cells = rest;
            let args = Args {
                scratch: args.scratch,
                cells: own,
                ..*step
            };
            all.extend(product.build(&args));
            answers = product.output(&args).map(|o| View::new(o.storage, o.desc));
        }
        let (Some(answers), [.., mul, sum]) = (answers, args.steps) else {
            return Vec::new();
        };
        let params = WeightedSum {
            answers: answers.data,
            weights: mul.input(1).data,
            out: sum.output(0).data,
            n_used,
            width,
            dtype: answers.dtype,
            pad: 0,
        };
        let module = ModuleKey::plain("weighted_sum");
        let blocks = (width.unsigned_abs() / 4).div_ceil(THREADS);
        let launch = Launch::new(module, "weighted_sum", blocks, THREADS, &params);
        all.push(launch.deep(n_tokens, 1));
        all
    };
    Stage::new(steps, name, reason, scratch, build).faults(faults)
}
