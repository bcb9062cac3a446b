//! softmax -> top_k [-> sum, clamp, div] -> route_experts: the router of a mixture of experts as one op.

use smallvec::smallvec;

use super::pattern::View;
use super::{Outcome, Pass, Rejection};
use crate::ops::{
    Binary, BinaryKind, Clamp, Gating, Op, Reduce, ReduceKind, RouteExperts, Softmax, TopK, Unary,
    UnaryKind,
};
use crate::{DType, Graph, Node, NodeId, Patch, PatchOp, PatchValue, Real, ValueId};

pub(super) struct FuseRouter;

impl Pass for FuseRouter {
    fn name(&self) -> &'static str {
        "fuse_router"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let view = View::of(graph);
        let (mut patches, mut rejected) = (Vec::new(), Vec::new());
        for (id, node) in graph.iter() {
            let (Op::TopK(TopK { k }), &[probs], &[values, ids]) =
                (&node.op, &node.inputs[..], &node.outputs[..])
            else {
                continue;
            };
            let Some((gating, logits)) = gating(view.producer(probs)) else {
                continue;
            };
            let desc = graph.desc(logits);
            if desc.rank() != 2 || desc.dtype != DType::F32 {
                rejected.push(Rejection {
                    node: id,
                    why: "the logits are not F32 [tokens, experts]",
                });
                continue;
            }
            if view.only_user(probs) != Some(id) {
                rejected.push(Rejection {
                    node: id,
                    why: "the probabilities are used elsewhere too",
                });
                continue;
            }
            let weights = normalised(&view, values);
            let op = RouteExperts {
                n_used: *k,
                gating,
                normalise: weights.is_some(),
                scale: Real(1.0),
            };
            patches.push(Patch {
                at: id,
                ops: vec![PatchOp {
                    op: op.into(),
                    inputs: smallvec![PatchValue::Old(logits)],
                }],
                replace: vec![
                    (
                        weights.unwrap_or(values),
                        PatchValue::New { op: 0, output: 0 },
                    ),
                    (ids, PatchValue::New { op: 0, output: 1 }),
                ],
            });
        }
        Outcome::of(patches, rejected)
    }
}

/// The logits under a plain softmax or sigmoid.
fn gating(node: &Node) -> Option<(Gating, ValueId)> {
    let &[x] = &node.inputs[..] else { return None };
    match &node.op {
        Op::Softmax(Softmax {
            scale,
            mask: false,
            sinks: false,
        }) if scale.0 == 1.0 => Some((Gating::Softmax, x)),
        Op::Unary(Unary {
            kind: UnaryKind::Sigmoid,
        }) => Some((Gating::Sigmoid, x)),
        _ => None,
    }
}

/// `values / clamp(sum(values), MIN_SUM, inf)`, if that is all that becomes of `values`.
fn normalised(view: &View<'_>, values: ValueId) -> Option<ValueId> {
    let graph = view.graph;
    let &[a, b] = view.users(values) else {
        return None;
    };
    let last = graph.desc(values).rank() - 1;
    let is_sum = |n: &NodeId| matches!(&graph.node(*n).op, Op::Reduce(Reduce { kind: ReduceKind::Sum, axis }) if *axis == last);
    let (sum, div) = if is_sum(&a) { (a, b) } else { (b, a) };
    if !is_sum(&sum) {
        return None;
    }
    let clamp = graph.node(view.only_user(*graph.node(sum).outputs.first()?)?);
    let limits = matches!(&clamp.op, Op::Clamp(Clamp { min, max })
        if *min == Real(RouteExperts::MIN_SUM) && max.0 == f32::INFINITY);
    let clamped = *clamp.outputs.first()?;
    let divided = graph.node(div);
    let is_div = matches!(
        divided.op,
        Op::Binary(Binary {
            kind: BinaryKind::Div
        })
    ) && divided.inputs[..] == [values, clamped]
        && view.only_user(clamped) == Some(div);
    (limits && is_div)
        .then(|| divided.outputs.first().copied())
        .flatten()
}
