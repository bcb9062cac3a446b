//! Experts cut by expert: between the products of one expert bank, a partial sum is not just any sum. Each row is
//! whole on the member that holds its expert and zero elsewhere, so that member can go on with it alone.

use std::collections::HashMap;

use ggrs_core::ops::{Glu, Op, Slice, SplitRule};
use ggrs_core::{Graph, Node, Sharding, Split, ValueId};

/// Values `[T, n_used, ..]` whose rows lie whole with their expert.
#[derive(Debug, Default)]
pub(super) struct ExpertRows {
    owners: HashMap<ValueId, Owner>,
}

/// Which expert each row belongs to, and who holds it.
#[derive(Clone, Debug, PartialEq)]
struct Owner {
    ids: ValueId,
    split: Split,
}

/// The bank, tokens and ids of a product with experts.
fn product(node: &Node) -> Option<(ValueId, ValueId, ValueId)> {
    match (&node.op, node.inputs.as_slice()) {
        (Op::MatMulId(_), [bank, x, ids]) | (Op::MatMulIdGlu(_), [bank, _, x, ids]) => {
            Some((*bank, *x, *ids))
        }
        _ => None,
    }
}

/// How the experts of a bank are cut, if they are.
fn experts(sharding: &Sharding) -> Option<&Split> {
    match sharding {
        Sharding::Split(split) if split.axis() == 0 => Some(split),
        _ => None,
    }
}

impl ExpertRows {
    /// May a rule see this operand as partial sums? Tokens of a product with experts only if each row is whole where
    /// its expert is.
    pub(super) fn may_stay<'s>(
        &self,
        node: &Node,
        value: ValueId,
        lies: impl Fn(ValueId) -> &'s Sharding,
    ) -> bool {
        let Some((bank, x, ids)) = product(node) else {
            return true;
        };
        let Some(split) = experts(lies(bank)).filter(|_| value == x) else {
            return true;
        };
        self.owners
            .get(&x)
            .is_some_and(|o| o.ids == ids && &o.split == split)
    }

    /// The rule of a gate over two such values (or one that holds both halves): a zero gate gives zeros, so the
    /// rows stay where they are.
    pub(super) fn rule<'s>(
        &self,
        node: &Node,
        lies: impl Fn(ValueId) -> &'s Sharding,
    ) -> Option<SplitRule> {
        let Op::Glu(Glu { .. }) = node.op else {
            return None;
        };
        let first = self.owners.get(node.inputs.first()?)?;
        let stays =
            |v: &ValueId| self.owners.get(v) == Some(first) && lies(*v) == &Sharding::Partial;
        let partial = |_: &ValueId| Sharding::Partial;
        node.inputs.iter().all(stays).then(|| {
            SplitRule::new(
                node.inputs.iter().map(partial),
                node.outputs.iter().map(partial),
            )
        })
    }

    /// Notes the results of a node whose rows lie with their experts.
    pub(super) fn note(&mut self, graph: &Graph, node: &Node, rule: &SplitRule) {
        let ([output], [Sharding::Partial]) = (node.outputs.as_slice(), rule.outputs.as_slice())
        else {
            return;
        };
        let owner = match (&node.op, product(node)) {
            (_, Some((_, _, ids))) => rule.inputs.first().and_then(experts).map(|split| Owner {
                ids,
                split: split.clone(),
            }),
            (Op::Glu(_), _) => node
                .inputs
                .first()
                .and_then(|v| self.owners.get(v))
                .cloned(),
            (Op::Slice(Slice { axis, .. }), _) => node
                .inputs
                .first()
                .filter(|v| axis + 1 == graph.desc(**v).rank())
                .and_then(|v| self.owners.get(v))
                .cloned(),
            _ => None,
        };
        if let Some(owner) = owner {
            self.owners.insert(*output, owner);
        }
    }
}
