//! A norm and the products that read it: `rms_norm | add_rms_norm, matmul, matmul, ..` with few activations become one
//! launch or two.

use ggrs_core::DType;
use ggrs_core::ops::Op;

use super::{Stage, StageArgs, Walk};
use crate::driver::DevicePtr;
use crate::kernel::Args;
use crate::kernels::fused::{MAX_MATRICES, Part, Weights, joined};
use crate::kernels::norm_q8::{MAX_WIDTH, NormQ8, WIDTH_OF};
use crate::kernels::product::matvec::unit_elems;
use crate::kernels::product::q8::Q8;

/// Activations at most: beyond, products are compute, and read their activations in another way.
pub(super) const MAX_TOKENS: usize = 8;

/// A norm at the beginning of a stage.
#[derive(Clone, Copy)]
pub(super) struct NormStep {
    eps: f32,
    has_addend: bool,
    width: usize,
    pub(super) n_tokens: usize,
}

impl NormStep {
    /// The norm of step `at`, if it is one that the kernel takes.
    pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Self> {
        let (eps, has_addend, weight) = match walk.op(at)? {
            Op::RmsNorm(op) if op.weighted => (op.eps.0, false, 1),
            Op::AddRmsNorm(op) => (op.eps.0, true, 2),
            _ => return None,
        };
        let plain = (0..=weight).all(|i| walk.is_plain_f32(at, i));
        let x = walk.sizes(at, 0);
        let (width, outer) = x.split_last()?;
        let n_tokens = outer.iter().product();
        let fits = *width <= MAX_WIDTH
            && width.is_multiple_of(WIDTH_OF)
            && (1..=MAX_TOKENS).contains(&n_tokens);
        (plain && fits).then_some(Self {
            eps,
            has_addend,
            width: *width,
            n_tokens,
        })
    }

    /// Which result is the norm.
    pub(super) const fn result(&self) -> usize {
        if self.has_addend { 1 } else { 0 }
    }

    /// Bytes of its rows in 8 bits.
    pub(super) fn q8_bytes(&self) -> u64 {
        Q8::bytes(self.n_tokens as u64, self.width as u64)
    }

    /// Its rows in 8 bits at an address.
    pub(super) fn q8(&self, at: DevicePtr) -> Q8 {
        Q8::at(at, self.n_tokens as u64, self.width as u32)
    }

    /// Its rows over a step's memory; those in 8 bits at `q8`.
    pub(super) fn rows(&self, args: &Args<'_>, q8: Q8) -> NormQ8 {
        let (addend, sum, weight) = if self.has_addend {
            (args.input(1).data, args.output(0).data, args.input(2).data)
        } else {
            (0, 0, args.input(1).data)
        };
        NormQ8 {
            x: args.input(0).data,
            addend,
            weight,
            sum,
            normed: args.output(self.result()).data,
            q8,
            width: self.width as i32,
            eps: self.eps,
        }
    }
}

/// Is step `at` a product of the rows of the norm at `norm_at` that [`joined`] takes? The dtype of its weights, if so.
pub(super) fn product_of(
    walk: &Walk<'_>,
    at: usize,
    norm_at: usize,
    norm: &NormStep,
) -> Option<DType> {
    let Op::MatMul(_) = walk.op(at)? else {
        return None;
    };
    let normed = walk.output(norm_at, norm.result())?;
    let weights = walk.input_desc(at, 0)?;
    let dtype = weights.dtype;
    let in_form = if dtype.is_block() {
        walk.packed(at, 0).is_some()
    } else {
        weights.is_contiguous()
    };
    let fits = in_form
        && weights.rank() == 2
        && (norm.width as u64).is_multiple_of(unit_elems(dtype))
        && walk.reads(at, 1, normed)
        && walk.output_desc(at, 0)?.is_contiguous();
    fits.then_some(dtype)
}

/// The product of a step as a part of a joined launch.
pub(super) fn part(args: &Args<'_>, dtype: DType) -> Part {
    let weights = Weights::of(args, 0, dtype);
    Part {
        weights,
        out: DevicePtr(args.output(0).data),
        out_pitch: i64::from(weights.m),
    }
}

/// The stage that begins at a step.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let norm = NormStep::find(walk, at)?;
    let dtypes: Vec<DType> = (at + 1..=at + MAX_MATRICES)
        .map_while(|step| product_of(walk, step, at, &norm))
        .collect();
    // A norm alone is no stage; one product of scalars gains nothing.
    if !dtypes.iter().any(|d| d.is_block()) {
        return None;
    }
    let steps = at..at + 1 + dtypes.len();
    let names: Vec<String> = dtypes.iter().map(|d| d.name().to_lowercase()).collect();
    let name = format!("norm_products/{}", names.join("+"));
    let reason = "the norm leaves its rows in 8 bits, and all that reads it is one launch";
    let n_multiprocessors = walk.facts.n_multiprocessors;
    let build = move |args: &StageArgs<'_>| {
        let Some((first, products)) = args.steps.split_first() else {
            return Vec::new();
        };
        let q8 = norm.q8(args.scratch);
        let parts = products
            .iter()
            .zip(&dtypes)
            .map(|(args, dtype)| part(args, *dtype));
        let parts: Vec<Part> = parts.collect();
        let n = norm.n_tokens as u32;
        joined(&parts, norm.rows(first, q8), n, n_multiprocessors)
    };
    Some(Stage::new(steps, name, reason, norm.q8_bytes(), build))
}
