//! The parameter block of products over views: `product.cuh`.

use bytemuck::{Pod, Zeroable};

use super::{Form, glu_number};
use crate::kernel::Args;
use crate::params::{FaultCell, View};
use crate::planes::Planes;

/// `Product` of `product.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct Product {
    pub(crate) weights: [View; 2],
    pub(crate) planes: [Planes; 2],
    pub(crate) x: View,
    pub(crate) out: View,
    pub(crate) ids: View,
    pub(crate) fault: FaultCell,
    pub(crate) n_weights: i32,
    pub(crate) glu: i32,
    pub(crate) first: i32,
    pub(crate) held: i32,
    pub(crate) total: i32,
    pub(crate) n_batches: i32,
    pub(crate) n_tokens: i32,
    pub(crate) pad: i32,
}

const _: () = assert!(size_of::<Product>() == 504);

/// A size as kernels have it; axes fit, since [`crate::routes::choose`] refuses longer ones.
pub(crate) fn int(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Batches of `x` that meet weights of their own, and activations in each.
fn batches(weights: &View, x: &View) -> (i32, i32) {
    let [w0, w1, w2, ..] = weights.size;
    let [b0, b1, b2, n, _] = x.size;
    if (w0, w1, w2) == (1, 1, 1) {
        return (1, int(x.rows() as usize));
    }
    (b0.saturating_mul(b1).saturating_mul(b2), n)
}

impl Product {
    /// The parameters of a step.
    pub(crate) fn new(form: &Form, args: &Args<'_>) -> Self {
        let n = form.n_weights();
        let weights = [args.input(0), args.input(n - 1)];
        let x = args.input(n);
        let (n_batches, n_tokens) = match form.experts {
            Some(_) => (1, 0),
            None => {
                let [first, _] = &weights;
                batches(first, &x)
            }
        };
        let experts = form.experts.map(|e| [e.first, e.held, e.total].map(int));
        let [first, held, total] = experts.unwrap_or_default();
        Self {
            weights,
            planes: [args.planes(0), args.planes(n - 1)],
            x,
            out: args.output(0),
            ids: args.input(n + 1),
            fault: args.cell(0),
            n_weights: int(n),
            glu: form.glu.map_or(0, glu_number),
            first,
            held,
            total,
            n_batches,
            n_tokens,
            pad: 0,
        }
    }
}
