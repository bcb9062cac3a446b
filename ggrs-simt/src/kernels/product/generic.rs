//! Products in F32 with weights as they lie: takes everything.

use ggrs_core::error::Refusal;

use super::Form;
use super::params::Product;
use crate::kernel::{Choice, FaultKind, Launch, ModuleKey, Request};

const FILE: &str = "product_generic";
const THREADS: u32 = 256;
/// Rows of weights that a warp has, and activations that it multiplies at once.
const ROWS: u32 = 2;
const TOKENS: u64 = 5;

/// The kernel for any product, after the last of the faster ones has refused it.
pub(crate) fn product(form: Form, request: &Request<'_>, last: &Refusal) -> Choice {
    let rows_per_block = THREADS / request.facts.warp.max(1) * ROWS;
    let choice = Choice::new(
        format!("{}/generic", form.stem()),
        format!(
            "weight rows read as F32 times F32 activations; {} {}",
            last.kernel, last.reason
        ),
        move |args| {
            let out = args.output(0);
            // Ids are looked at even where there is nothing to multiply.
            if out.rows() == 0 || out.elems() == 0 && form.experts.is_none() {
                return Vec::new();
            }
            let p = Product::new(&form, args);
            let blocks = out.width().div_ceil(rows_per_block.max(1)).max(1);
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
