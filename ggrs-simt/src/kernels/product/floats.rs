//! Products of F32 weights with many F32 activations: a router over a prompt.

use bytemuck::{Pod, Zeroable};
use ggrs_core::DType;
use ggrs_core::error::{Refusal, RefusalReason};

use super::Form;
use super::matvec::is_aligned;
use super::params::int;
use crate::kernel::{Choice, Launch, ModuleKey, Request};

const KERNEL: &str = "tiles of F32";

/// A kernel: its file and function, what a block has, and why it.
struct Tiles {
    name: &'static str,
    kernel: &'static str,
    reason: &'static str,
    rows: u32,
    shared_bytes: u32,
}

/// In F32 throughout.
const IN_F32: Tiles = Tiles {
    name: "matmul/tiles/f32",
    kernel: "product_f32",
    reason: "F32 weights times many F32 activations, 32 by 32 at once",
    rows: 32,
    shared_bytes: 0,
};

/// By matrix units.
const IN_TF32: Tiles = Tiles {
    name: "matmul/tiles/tf32",
    kernel: "product_tf32",
    reason: "F32 weights times many F32 activations, 128 by 32 at once: each factor as a sum of two TF32",
    rows: 128,
    shared_bytes: 81920,
};

const THREADS: u32 = 256;
/// Activations of a block.
const TOKENS: u32 = 32;
/// Fewer activations leave most multiprocessors without a tile.
const MIN_ACTIVATIONS: usize = 48;

/// `ProductF32` of `product_f32.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct ProductF32 {
    weights: u64,
    x: u64,
    out: u64,
    weight_pitch: i64,
    x_pitch: i64,
    m: i32,
    n: i32,
    k: i32,
    pad: i32,
}

const _: () = assert!(size_of::<ProductF32>() == 56);

/// Why this product is not for the kernel.
fn refusal(form: &Form, request: &Request<'_>) -> Option<RefusalReason> {
    if form.glu.is_some() || form.experts.is_some() {
        let needs = "one matrix of weights";
        return Some(RefusalReason::WeightForm { needs });
    }
    for (i, role) in ["weights", "x"].into_iter().enumerate() {
        let desc = request.input(i);
        if desc.dtype != DType::F32 {
            let dtype = desc.dtype;
            return Some(RefusalReason::DType { role, dtype });
        }
        if !desc.is_contiguous() || !is_aligned(&desc, 4) {
            return Some(RefusalReason::Strided { role });
        }
    }
    let (weights, out) = (request.input(0), request.output(0));
    if !out.is_contiguous() {
        return Some(RefusalReason::Strided { role: "result" });
    }
    let rows_of = |leading: &[ggrs_core::Dim]| leading.iter().map(|d| d.bound()).product();
    let outer: usize = rows_of(weights.shape.leading(2));
    let n: usize = rows_of(out.shape.leading(1));
    let max = 65535 * TOKENS as usize;
    if outer != 1 || n > max {
        let (what, got) = if outer == 1 {
            ("activations", n)
        } else {
            ("matrices of weights", outer)
        };
        let max = if outer == 1 { max } else { 1 };
        return Some(RefusalReason::Size { what, got, max });
    }
    if n < MIN_ACTIVATIONS {
        let needs = "at least 48 activations";
        return Some(RefusalReason::Feature { needs });
    }
    let k = weights.shape.last().bound();
    (!k.is_multiple_of(4)).then_some(RefusalReason::Multiple {
        what: "inner size k",
        got: k,
        of: 4,
    })
}

/// The kernel, if it takes the product.
pub(crate) fn product(form: &Form, request: &Request<'_>) -> Result<Choice, Refusal> {
    if let Some(reason) = refusal(form, request) {
        let kernel = KERNEL;
        return Err(Refusal { kernel, reason });
    }
    let has_units = request.facts.has_matrix_units
        && request.facts.warp == 32
        && request.facts.shared_bytes >= IN_TF32.shared_bytes;
    let tiles = if has_units && !request.is_exact() {
        IN_TF32
    } else {
        IN_F32
    };
    Ok(Choice::new(tiles.name, tiles.reason, move |args| {
        let (weights, x, out) = (args.input(0), args.input(1), args.output(0));
        if out.elems() == 0 {
            return Vec::new();
        }
        let k = i64::from(x.width());
        let p = ProductF32 {
            weights: weights.data,
            x: x.data,
            out: out.data,
            weight_pitch: k,
            x_pitch: k,
            m: out.width().cast_signed(),
            n: int(out.rows() as usize),
            k: x.width().cast_signed(),
            pad: 0,
        };
        let rows = out.width().div_ceil(tiles.rows);
        let tokens = out.rows().div_ceil(TOKENS.into()) as u32;
        let module = ModuleKey::plain(tiles.kernel);
        let launch = Launch::new(module, tiles.kernel, rows, THREADS, &p);
        vec![launch.deep(tokens, 1).shared(tiles.shared_bytes)]
    }))
}

/// Their modules.
pub(crate) fn modules() -> Vec<ModuleKey> {
    [IN_F32, IN_TF32]
        .map(|tiles| ModuleKey::plain(tiles.kernel))
        .into()
}
