//! A mixture of experts: router, grouped gate, up and down products, weighted sum.

use ggrs_core::ops::{GluKind, RouteExperts};
use ggrs_core::{Dim, GraphBuilder, GraphError, Shape, Value};

/// Weights and sizes of one expert bank.
pub(crate) struct ExpertsBlock {
    /// Router `[E, n_embd]`.
    pub(crate) router: Value,
    /// `[E, n_ff, n_embd]`.
    pub(crate) gate: Value,
    /// `[E, n_ff, n_embd]`.
    pub(crate) up: Value,
    /// `[E, n_embd, n_ff]`.
    pub(crate) down: Value,
    /// Experts per token.
    pub(crate) n_used: usize,
    /// Divide the chosen probabilities by their sum.
    pub(crate) normalise: bool,
    /// The gate's activation.
    pub(crate) activation: GluKind,
}

impl ExpertsBlock {
    /// The experts' answer `[T, n_embd]` to normed tokens `x` `[T, n_embd]`.
    pub(crate) fn build(&self, g: &mut GraphBuilder, x: Value) -> Result<Value, GraphError> {
        let (tokens, n_embd) = match g.desc(x).map(|d| d.shape.dims()) {
            Some(&[tokens, n_embd]) => (tokens, n_embd),
            _ => (Dim::Fixed(0), Dim::Fixed(0)),
        };
        let n_used = Dim::Fixed(self.n_used);
        let one = Dim::Fixed(1);

        // The router as plain ops; a pass makes one of them.
        let logits = g.matmul(self.router, x)?;
        let probabilities = g.softmax(logits, 1.0, None, None)?;
        let (mut weights, ids) = g.top_k(probabilities, self.n_used)?;
        if self.normalise {
            let sum = g.sum(weights, 1)?;
            let sum = g.clamp(sum, RouteExperts::MIN_SUM, f32::INFINITY)?;
            weights = g.div(weights, sum)?;
        }

        let rows = g.reshape(x, Shape::new([tokens, one, n_embd]))?;
        let gate = g.matmul_id(self.gate, rows, ids)?;
        let up = g.matmul_id(self.up, rows, ids)?;
        let hidden = g.glu(self.activation, gate, up)?;
        let answers = g.matmul_id(self.down, hidden, ids)?;
        let weights = g.reshape(weights, Shape::new([tokens, n_used, one]))?;
        let weighted = g.mul(answers, weights)?;
        let sum = g.sum(weighted, 1)?;
        g.reshape(sum, Shape::new([tokens, n_embd]))
    }
}
