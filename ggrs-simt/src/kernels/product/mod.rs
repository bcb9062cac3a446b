//! Matrix products for few activations, and for every shape and form that nothing faster takes.

pub(crate) mod floats;
pub(crate) mod generic;
pub(crate) mod matvec;
pub(crate) mod params;
pub(crate) mod q8;

use ggrs_core::Unsupported;
use ggrs_core::error::Refusal;
use ggrs_core::ops::{GluKind, Window};

use crate::kernel::{Choice, ModuleKey, Request};

/// What a product is, apart from its operands: alone or as gate and up of a gated linear unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// The gate's activation, if there are two weights.
    pub(crate) glu: Option<GluKind>,
    /// Experts chosen per token: which of them are held.
    pub(crate) experts: Option<Held>,
}

/// Experts `first..first + held` of `total`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) first: usize,
    pub(crate) held: usize,
    pub(crate) total: usize,
}

impl Held {
    /// The window of a bank that has `held` experts here; all of them, if there is none.
    pub(crate) fn new(window: Option<Window>, held: usize) -> Self {
        Self {
            first: window.map_or(0, |w| w.first),
            held,
            total: window.map_or(held, |w| w.total),
        }
    }
}

impl Form {
    /// A product of all activations with the same weights.
    pub(crate) const fn dense(glu: Option<GluKind>) -> Self {
        Self { glu, experts: None }
    }

    /// A product with experts chosen per token.
    pub(crate) fn by_id(
        window: Option<Window>,
        glu: Option<GluKind>,
        request: &Request<'_>,
    ) -> Self {
        let bank = request.input(0);
        let held = bank.shape.dim(0).map_or(0, ggrs_core::Dim::bound);
        Self {
            glu,
            experts: Some(Held::new(window, held)),
        }
    }

    /// Weight operands; x is the operand after them, ids the one after that.
    pub(crate) const fn n_weights(&self) -> usize {
        if self.glu.is_some() { 2 } else { 1 }
    }

    /// The op's stem.
    pub(crate) const fn stem(&self) -> &'static str {
        match (self.experts.is_some(), self.glu.is_some()) {
            (false, false) => "matmul",
            (false, true) => "matmul_glu",
            (true, false) => "matmul_id",
            (true, true) => "matmul_id_glu",
        }
    }
}

/// The first kernel that takes a product: one for many activations, one for a few, the one that takes everything.
pub(crate) fn choose(
    many: Result<Choice, Refusal>,
    form: Form,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    many.or_else(|_| floats::product(&form, request))
        .or_else(|_| matvec::product(form, request))
        .or_else(|refusal| Ok(generic::product(form, request, &refusal)))
}

/// Every module of these kernels.
pub(crate) fn modules() -> Vec<ModuleKey> {
    [
        floats::modules(),
        generic::modules(),
        matvec::modules(),
        q8::modules(),
    ]
    .concat()
}

/// An activation's number in kernels.
pub(crate) fn glu_number(kind: GluKind) -> i32 {
    kind as i32
}
