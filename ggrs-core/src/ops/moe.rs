//! Mixture of experts: products with experts chosen per token, and the router as one op.

use crate::ops::glu::GluKind;
use crate::ops::matmul::same_weights;
use crate::ops::movement::keeps_blocks;
use crate::ops::operands::{Operand, fresh, one, positive};
use crate::ops::{Op, OpSpec, Operands, Outputs, SplitOperand, SplitRule, bytes, elems, number};
use crate::{DType, DTypeSet, Dim, OpError, Real, Shape, Sharding, Split, TensorDesc};

/// Products with experts chosen per token: weights `[E, m, k]`, x `[T, n, k]` with `n` 1 or `n_used`, ids I32
/// `[T, n_used]` -> F32 `[T, n_used, m]`: `out[t, j] = weights[ids[t, j]] @ x[t, min(j, n - 1)]`.
///
/// An id outside `0..E` is a fault of the run. With a [`Window`], the weights are some of the experts: ids of the
/// others give zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MatMulId {
    /// Which experts the weights hold, if not all.
    pub window: Option<Window>,
}

/// A table of which only some rows are held: rows `first..` of `total`. Ids in `0..total` that are not held give zeros;
/// ids outside are a fault of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first row held.
    pub first: usize,
    /// Rows of the whole table.
    pub total: usize,
}

impl Window {
    /// The rows held must lie inside the table.
    pub(crate) fn check(window: Option<Self>, held: Dim) -> Result<(), OpError> {
        match window {
            Some(w) if w.first.saturating_add(held.bound()) > w.total => Err(OpError::TooLarge {
                what: "end of the rows held",
                got: w.first.saturating_add(held.bound()),
                max: w.total,
            }),
            _ => Ok(()),
        }
    }

    /// The rows of the table (operand 0) that a member holds if the rule cuts it along `axis`, which `window` may have
    /// narrowed before.
    pub(super) fn of_member(
        window: Option<Self>,
        member: usize,
        rule: &SplitRule,
        ins: &[&TensorDesc],
        axis: usize,
    ) -> Option<Self> {
        match rule.inputs.first() {
            Some(Sharding::Split(cut)) if cut.axis() == axis => {
                let rows = ins.first()?.shape.dim(axis)?.bound();
                let whole = window.unwrap_or(Self {
                    first: 0,
                    total: rows,
                });
                let first = cut.part(member).first().map_or(0, |r| r.start);
                Some(Self {
                    first: whole.first + first,
                    ..whole
                })
            }
            _ => None,
        }
    }

    fn params(window: Option<Self>) -> Option<(&'static str, String)> {
        window.map(|w| ("window", format!("from {} of {}", w.first, w.total)))
    }
}

fn product(weights: Operand<'_>, x: Operand<'_>, ids: Operand<'_>) -> Result<Shape, OpError> {
    let weights = weights
        .dtype(DTypeSet::Weights)?
        .rank(3, "3 axes [experts, m, k]")?
        .rows()?;
    let x = x
        .dtype(DTypeSet::Float)?
        .rank(3, "3 axes [tokens, 1 or n_used, k]")?
        .rows()?;
    let ids = ids
        .dtype(DTypeSet::I32)?
        .rank(2, "2 axes [tokens, n_used]")?
        .rows()?;
    x.same(0, "inner size k", weights.role, weights.from_end(0))?;
    ids.same(1, "number of tokens", x.role, x.from_end(2))?;
    if x.from_end(1) != Dim::Fixed(1) {
        x.same(1, "rows per token (1 or n_used)", ids.role, ids.from_end(0))?;
    }
    Ok(Shape::new([
        x.from_end(2),
        ids.from_end(0),
        weights.from_end(1),
    ]))
}

fn product_rule(
    bank: &SplitOperand<'_>,
    x: &SplitOperand<'_>,
    ids: &SplitOperand<'_>,
) -> SplitRule {
    let whole = Sharding::Replicated;
    let replicated = SplitRule::replicated(3, 1);
    let on = |cut: &Split, axis: usize| Sharding::Split(cut.on_axis(axis));
    let rule = |bank: Sharding, x: Sharding, ids: Sharding, out: Sharding| {
        SplitRule::new([bank, x, ids], [out])
    };
    // One row per token is for all of its experts.
    let one_row = x.desc.shape.dim(1) == Some(Dim::Fixed(1));
    if let Some(cut) = bank.split() {
        let of_bank = bank.sharding.clone();
        return match cut.axis() {
            0 if cut.is_plain() => {
                let of_x = if x.is_partial() {
                    Sharding::Partial
                } else {
                    whole.clone()
                };
                rule(of_bank, of_x, whole, Sharding::Partial)
            }
            1 => rule(of_bank, whole.clone(), whole, on(cut, 2)),
            2 if cut.is_disjoint() => rule(of_bank, on(cut, 2), whole, Sharding::Partial),
            _ => replicated,
        };
    }
    if let Some(cut) = x.cut_of(2) {
        let fits = cut.is_disjoint() && keeps_blocks(x, bank.desc.dtype);
        let of_x = x.sharding.clone();
        return if fits {
            rule(on(cut, 2), of_x, whole, Sharding::Partial)
        } else {
            replicated
        };
    }
    match x.split().or_else(|| ids.split()) {
        Some(cut) if cut.axis() == 0 => rule(whole, on(cut, 0), on(cut, 0), on(cut, 0)),
        Some(cut) if !one_row => rule(whole, on(cut, 1), on(cut, 1), on(cut, 1)),
        _ => match ids.cut_of(1) {
            Some(cut) => rule(whole.clone(), whole, on(cut, 1), on(cut, 1)),
            None => replicated,
        },
    }
}

/// Bytes touched: only the experts that tokens chose are read, at most all of them.
fn routed_bytes(banks: &[&TensorDesc], rest: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
    let rows = outs.first().map_or(0.0, |o| {
        elems(o) / number(Some(o.shape.last().bound())).max(1.0)
    });
    let experts: f64 = banks
        .iter()
        .map(|w| {
            let n = number(w.shape.dim(0).map(Dim::bound)).max(1.0);
            bytes(w) * (rows / n).min(1.0)
        })
        .sum();
    experts + rest.iter().chain(outs).map(|d| bytes(d)).sum::<f64>()
}

fn routed_flops(weights: Option<&&TensorDesc>, outs: &[&TensorDesc]) -> f64 {
    let k = weights.map_or(0.0, |w| number(Some(w.shape.last().bound())));
    2.0 * k * outs.first().map_or(0.0, |o| elems(o))
}

impl OpSpec for MatMulId {
    fn stem(&self) -> &'static str {
        "matmul_id"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["expert weights", "x", "expert ids"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [weights, x, ids] = ins.exactly()?;
        Window::check(self.window, weights.from_end(2))?;
        one(DType::F32, product(weights, x, ids)?)
    }

    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        routed_flops(ins.first(), outs)
    }

    fn bytes(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        let (banks, rest) = ins.split_at(ins.len().min(1));
        routed_bytes(banks, rest, outs)
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        Window::params(self.window).into_iter().collect()
    }

    /// Banks cut along m give cut results; along k, with `x` alike, sums; cut by expert, sums: a member gives zeros for the experts it does not hold.
    /// `x` is then whole, or a sum of rows that are whole on the member that holds their expert and zero elsewhere; only
    /// whoever partitions knows, and shows such an `x` as partial here. Tokens and rows per token pass.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        match ins {
            [bank, x, ids] => product_rule(bank, x, ids),
            _ => SplitRule::replicated(ins.len(), outs.len()),
        }
    }

    /// The window of experts that the member holds.
    fn on_member(
        &self,
        member: usize,
        rule: &SplitRule,
        ins: &[&TensorDesc],
        _: &[Shape],
    ) -> Option<Op> {
        let window = Window::of_member(self.window, member, rule, ins, 0)?;
        let window = Some(window);
        Some(Self { window }.into())
    }
}

/// `activation(gate product) * (up product)` with experts chosen per token: what the gate/up fusion makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatMulIdGlu {
    /// The activation.
    pub kind: GluKind,
    /// Which experts the weights hold, if not all; ids of the others give zeros.
    pub window: Option<Window>,
}

impl OpSpec for MatMulIdGlu {
    fn stem(&self) -> &'static str {
        "matmul_id_glu"
    }

    fn roles(&self) -> &'static [&'static str] {
        &[
            "gate expert weights",
            "up expert weights",
            "x",
            "expert ids",
        ]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [gate, up, x, ids] = ins.exactly()?;
        let shape = product(gate, x, ids)?;
        Window::check(self.window, gate.from_end(2))?;
        product(up, x, ids)?;
        same_weights(gate, up)?;
        one(DType::F32, shape)
    }

    fn flops(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        2.0 * routed_flops(ins.first(), outs)
    }

    fn bytes(&self, ins: &[&TensorDesc], outs: &[&TensorDesc]) -> f64 {
        let (banks, rest) = ins.split_at(ins.len().min(2));
        routed_bytes(banks, rest, outs)
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        let kind = ("kind", self.kind.stem().to_owned());
        std::iter::once(kind)
            .chain(Window::params(self.window))
            .collect()
    }

    /// As for one product, both banks cut alike, but never along k: the gate needs the whole sum.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        let replicated = SplitRule::replicated(ins.len(), outs.len());
        let [gate, up, x, ids] = ins else {
            return replicated;
        };
        let bank = if gate.split().is_some() { gate } else { up };
        let rule = product_rule(bank, x, ids);
        let [of_bank, of_x, of_ids] = rule.inputs.as_slice() else {
            return replicated;
        };
        match of_bank {
            Sharding::Split(cut) if cut.axis() == 2 => replicated,
            _ => SplitRule::new(
                [of_bank, of_bank, of_x, of_ids].map(Clone::clone),
                rule.outputs.clone(),
            ),
        }
    }

    /// The window of experts that the member holds.
    fn on_member(
        &self,
        member: usize,
        rule: &SplitRule,
        ins: &[&TensorDesc],
        _: &[Shape],
    ) -> Option<Op> {
        let window = Window::of_member(self.window, member, rule, ins, 0)?;
        let (kind, window) = (self.kind, Some(window));
        Some(Self { kind, window }.into())
    }
}

/// How a router turns logits into probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gating {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each expert.
    Sigmoid,
}

/// The router: probabilities of logits `[T, E]`, the `n_used` largest per token, their weights.
///
/// Two outputs: weights F32 `[T, n_used]` and ids I32 `[T, n_used]`, largest first, ties by lower id. With
/// `normalise`, weights are divided by their sum, at least 6.103515625e-5 (the smallest normal F16, as the models'
/// reference does). A NaN logit is a fault of the run. What the routing fusion makes of softmax, top_k, sum, div.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteExperts {
    /// Experts per token.
    pub n_used: usize,
    /// Probabilities.
    pub gating: Gating,
    /// Divide by the sum of the chosen.
    pub normalise: bool,
    /// Factor on the weights.
    pub scale: Real,
}

impl RouteExperts {
    /// The least sum that weights are divided by.
    pub const MIN_SUM: f32 = 6.103_515_6e-5;
}

impl OpSpec for RouteExperts {
    fn stem(&self) -> &'static str {
        "route_experts"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["router logits"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [logits] = ins.exactly()?;
        let logits = logits
            .dtype(DTypeSet::F32)?
            .rank(2, "2 axes [tokens, experts]")?
            .rows()?;
        let experts = logits.fixed_from_end(0, "the number of experts must be fixed")?;
        positive("scale", self.scale.0)?;
        if self.n_used == 0 || self.n_used > experts {
            return Err(OpError::TooLarge {
                what: "experts per token",
                got: self.n_used,
                max: experts,
            });
        }
        let shape = Shape::new([logits.from_end(1), Dim::Fixed(self.n_used)]);
        Ok(Outputs::from_iter([
            fresh(DType::F32, shape.clone())?,
            fresh(DType::I32, shape)?,
        ]))
    }

    fn flops(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        5.0 * ins.first().map_or(0.0, |l| elems(l))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![
            ("n_used", self.n_used.to_string()),
            ("gating", format!("{:?}", self.gating)),
            ("normalise", self.normalise.to_string()),
        ]
    }

    /// Token by token.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        SplitRule::by_rows(ins, outs.len())
    }
}
