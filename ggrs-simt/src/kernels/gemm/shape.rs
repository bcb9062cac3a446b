//! What a product by matrix units is, in numbers, if it is one that they take.

use ggrs_core::error::RefusalReason;
use ggrs_core::{DType, TensorDesc};

use crate::kernel::Request;
use crate::kernels::product::Form;

/// What k must be a multiple of, and how far rows of converted activations are filled up.
const PART: usize = 32;
const STEP: usize = 128;
/// Elements of a scalar weight that are loaded at once: its "block".
const SCALAR_UNIT: usize = 8;
/// The largest counts that kernels hold.
const MAX_INT: usize = i32::MAX as usize;
const MAX_WORD: usize = u32::MAX as usize;

/// Sizes of a product, and how its weights lie, in blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Of the weights.
    pub(super) dtype: DType,
    pub(super) m: usize,
    pub(super) k: usize,
    /// Rows of x.
    pub(super) n_rows: usize,
    /// Rows of the result.
    pub(super) n_results: usize,
    /// Results that share a row of x.
    pub(super) results_per_row: usize,
    /// Two weights.
    pub(super) is_gated: bool,
    /// Blocks from a row of each weight to the next.
    pub(super) row_blocks: [u32; 2],
    /// Blocks from an expert of each weight to the next.
    pub(super) expert_blocks: [u32; 2],
}

impl Shape {
    /// Of a product of all activations with one matrix.
    pub(super) fn dense(form: &Form, request: &Request<'_>) -> Result<Self, RefusalReason> {
        let mut shape = Self::new(form, request)?;
        let sizes = request.input(0).shape.sizes();
        let matrices = sizes.iter().rev().skip(2).product();
        if matrices != 1 {
            return Err(RefusalReason::Size {
                what: "number of weight matrices",
                got: matrices,
                max: 1,
            });
        }
        shape.n_results = shape.n_rows;
        shape.check()
    }

    /// Of a product with experts chosen per token.
    pub(super) fn grouped(form: &Form, request: &Request<'_>) -> Result<Self, RefusalReason> {
        let mut shape = Self::new(form, request)?;
        let ids = request.input(form.n_weights() + 1).shape.sizes();
        shape.n_results = ids.iter().product();
        shape.results_per_row = shape.n_results / shape.n_rows.max(1);
        shape.check()
    }

    /// What both have in common.
    fn new(form: &Form, request: &Request<'_>) -> Result<Self, RefusalReason> {
        if request.is_exact() {
            return Err(RefusalReason::Precision { asked: "exact" });
        }
        if !request.facts.has_matrix_units || request.facts.warp != 32 {
            return Err(RefusalReason::Feature {
                needs: "matrix units",
            });
        }
        let (first, second) = (request.input(0), request.input(form.n_weights() - 1));
        if second.dtype != first.dtype {
            return Err(RefusalReason::DType {
                role: "up weights",
                dtype: second.dtype,
            });
        }
        for (i, weights) in [(0, &first), (form.n_weights() - 1, &second)] {
            takes(weights, request.is_packed(i))?;
        }
        if !request.output(0).is_contiguous() {
            return Err(RefusalReason::Strided { role: "the result" });
        }
        let x = request.input(form.n_weights()).shape.sizes();
        let (k, outer) = x
            .split_last()
            .map_or((0, [].as_slice()), |(k, outer)| (*k, outer));
        let lies = [lie(&first), lie(&second)];
        Ok(Self {
            dtype: first.dtype,
            m: first
                .shape
                .sizes()
                .iter()
                .rev()
                .nth(1)
                .copied()
                .unwrap_or(0),
            k,
            n_rows: outer.iter().product(),
            n_results: 0,
            results_per_row: 1,
            is_gated: form.glu.is_some(),
            row_blocks: lies.map(|l| l.row),
            expert_blocks: lies.map(|l| l.expert),
        })
    }

    fn check(self) -> Result<Self, RefusalReason> {
        let empty = [
            (self.m, "rows of weights"),
            (self.k, "elements of k"),
            (self.n_results, "activations"),
        ];
        if let Some((_, what)) = empty.into_iter().find(|(n, _)| *n == 0) {
            return Err(RefusalReason::Empty { what });
        }
        if !self.k.is_multiple_of(PART) {
            return Err(RefusalReason::Multiple {
                what: "inner size k",
                got: self.k,
                of: PART,
            });
        }
        let limits = [
            (self.n_results, "number of activations", MAX_INT),
            (
                self.n_rows.saturating_mul(self.padded_k() / 8),
                "size of x",
                MAX_WORD,
            ),
        ];
        match limits.into_iter().find(|(got, _, max)| got > max) {
            Some((got, what, max)) => Err(RefusalReason::Size { what, got, max }),
            None => Ok(self),
        }
    }

    /// Elements of a row of converted activations.
    pub(super) const fn padded_k(&self) -> usize {
        self.k.next_multiple_of(STEP)
    }

    /// Do the matrix units multiply F16, or BF16?
    pub(super) const fn is_f16(&self) -> bool {
        !matches!(self.dtype, DType::BF16 | DType::MXFP4)
    }
}

/// Elements that weights are addressed by.
const fn unit(dtype: DType) -> usize {
    if dtype.is_block() {
        dtype.block_elems()
    } else {
        SCALAR_UNIT
    }
}

/// Are these weights that fragments can be made of?
fn takes(weights: &TensorDesc, is_packed: bool) -> Result<(), RefusalReason> {
    let role = "weights";
    let dtype = weights.dtype;
    if !dtype.is_block() && !matches!(dtype, DType::F16 | DType::BF16) {
        return Err(RefusalReason::DType { role, dtype });
    }
    if dtype.is_block() && !is_packed {
        return Err(RefusalReason::WeightForm { needs: "in planes" });
    }
    let unit = unit(dtype);
    let strides = weights.layout.strides();
    let is_even = |n: &usize| n.is_multiple_of(unit);
    let rows_are_whole = weights
        .layout
        .contiguous_from(&weights.shape, weights.rank() - 1);
    let rows_are_aligned = strides.iter().rev().skip(1).all(is_even);
    if !rows_are_whole || !rows_are_aligned || !is_even(&weights.layout.offset()) {
        return Err(RefusalReason::Strided { role });
    }
    let span = weights.layout.span(&weights.shape) / unit;
    if span > MAX_WORD {
        return Err(RefusalReason::Size {
            what: "number of blocks",
            got: span,
            max: MAX_WORD,
        });
    }
    Ok(())
}

/// Blocks from a row to the next and from an expert to the next.
#[derive(Clone, Copy)]
struct Lie {
    row: u32,
    expert: u32,
}

fn lie(weights: &TensorDesc) -> Lie {
    let unit = unit(weights.dtype);
    let mut strides = weights.layout.strides().iter().rev().skip(1);
    let mut next = || u32::try_from(strides.next().map_or(0, |n| n / unit)).unwrap_or(0);
    Lie {
        row: next(),
        expert: next(),
    }
}
