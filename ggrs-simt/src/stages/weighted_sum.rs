//! The weighted sum of experts' answers for any number of tokens: what is between the second product and the sum is not
//! written.
//!
//! `matmul_id, mul, sum` become the product and one launch.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{BinaryKind, Op, ReduceKind};

use super::{Stage, StageArgs, Walk};
use crate::kernel::{Args, Launch, ModuleKey};

/// `WeightedSum` of `weighted_sum.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct WeightedSum {
    answers: u64,
    weights: u64,
    out: u64,
    n_used: i32,
    width: i32,
}

const _: () = assert!(size_of::<WeightedSum>() == 32);

const THREADS: u32 = 256;
/// Blocks along y.
const MAX_TOKENS: usize = 65_535;

pub(super) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("weighted_sum")]
}

/// The stage that begins at a step.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let (steps, mul_at, sum_at) = (at..at + 3, at + 1, at + 2);
    let (Op::MatMulId(_), Op::Binary(mul), Op::Reduce(sum)) =
        (walk.op(at)?, walk.op(mul_at)?, walk.op(sum_at)?)
    else {
        return None;
    };
    let kinds = mul.kind == BinaryKind::Mul && sum.kind == ReduceKind::Sum && sum.axis == 1;
    let (answers, weighted) = (walk.output(at, 0)?, walk.output(mul_at, 0)?);
    let chained = walk.reads(mul_at, 0, answers) && walk.reads(sum_at, 0, weighted);
    let inner = walk.is_inner(answers, &steps) && walk.is_inner(weighted, &steps);
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
    if !(kinds && chained && inner && fits) {
        return None;
    }
    let product = walk.choice(at)?;
    let route = product.route();
    let name = format!("{}+weighted_sum", route.kernel);
    let reason = format!(
        "{}; answers are weighted and added up in one pass",
        route.reason
    );
    let (n_used, width) = (i32::try_from(n_used).ok()?, i32::try_from(width).ok()?);
    let blocks = (width.unsigned_abs() / 4).div_ceil(THREADS);
    let faults = product.faults().to_vec();
    let build = move |args: &StageArgs<'_>| {
        let [first, mul, sum] = args.steps else {
            return Vec::new();
        };
        let mut all = product.build(&Args {
            scratch: args.scratch,
            cells: args.cells,
            ..*first
        });
        let params = WeightedSum {
            answers: first.output(0).data,
            weights: mul.input(1).data,
            out: sum.output(0).data,
            n_used,
            width,
        };
        let module = ModuleKey::plain("weighted_sum");
        let launch = Launch::new(module, "weighted_sum", blocks, THREADS, &params);
        all.push(launch.deep(n_tokens as u32, 1));
        all
    };
    let mut stage = Stage::new(steps, name, reason, route.scratch_bytes, build);
    for kind in faults {
        stage = stage.fault(at, kind);
    }
    Some(stage)
}
