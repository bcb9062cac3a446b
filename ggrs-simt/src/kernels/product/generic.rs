//! Products in F32 with weights as they lie: takes everything.

use super::Form;
use super::params::Product;
use crate::kernel::{Choice, FaultKind, Launch, ModuleKey, Request};

const FILE: &str = "product_generic";
const THREADS: u32 = 256;
/// Rows of weights that a warp has, and activations that it multiplies at once.
const ROWS: u32 = 2;
const TOKENS: u64 = 8;

/// The kernel for any product.
pub(crate) fn product(form: Form, request: &Request<'_>) -> Choice {
    let rows_per_block = THREADS / request.facts.warp.max(1) * ROWS;
    let choice = Choice::new(
        format!("{}/generic", form.stem()),
        "weight rows read as F32 times F32 activations",
        move |args| {
            let out = args.output(0);
            if out.elems() == 0 {
                return Vec::new();
            }
            let p = Product::new(&form, args);
            let blocks = out.width().div_ceil(rows_per_block.max(1));
            let (kernel, shares) = match form.experts {
                Some(_) => ("product_by_id", out.rows()),
                None => {
                    let tiles = u64::from(p.n_tokens.unsigned_abs()).div_ceil(TOKENS);
                    ("product", tiles * u64::from(p.n_batches.unsigned_abs()))
                }
            };
            let launch = Launch::new(ModuleKey::plain(FILE), kernel, blocks, THREADS, &p);
            vec![launch.deep(shares.min(65535) as u32, 1)]
        },
    );
    match form.experts {
        Some(experts) => choice.fault(FaultKind::IndexOutOfRange {
            role: "expert ids",
            bound: experts.total,
        }),
        None => choice,
    }
}

/// Its module.
pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain(FILE)]
}
