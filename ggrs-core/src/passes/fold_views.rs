//! Folds views: a view that changes nothing goes, two in a row become one, a copy of what is contiguous goes.

use smallvec::{SmallVec, smallvec};

use super::pattern::View;
use super::{Outcome, Pass};
use crate::ops::{Op, Permute, Reshape};
use crate::{Graph, Patch, PatchOp, PatchValue, ValueId};

pub(super) struct FoldViews;

impl Pass for FoldViews {
    fn name(&self) -> &'static str {
        "fold_views"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let view = View::of(graph);
        let mut patches = Vec::new();
        for (id, node) in graph.iter() {
            let (Some(&x), Some(&out)) = (node.inputs.first(), node.outputs.first()) else {
                continue;
            };
            let same = graph.desc(x) == graph.desc(out);
            let fold = match &node.op {
                Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) | Op::Broadcast(_) if same => {
                    Some(Fold::Into(x))
                }
                Op::Reshape(op) => reshape_of_reshape(&view, op, x, out),
                Op::Permute(op) => permute_of_permute(&view, op, x),
                Op::Contiguous(_) if graph.desc(x).is_contiguous() && !shared(&view, x, out) => {
                    Some(Fold::Into(x))
                }
                _ => None,
            };
            match fold {
                None => {}
                Some(Fold::Into(x)) => {
                    patches.push(Patch {
                        at: id,
                        ops: Vec::new(),
                        replace: vec![(out, PatchValue::Old(x))],
                    });
                }
                Some(Fold::As(op, x)) => patches.push(Patch {
                    at: id,
                    ops: vec![PatchOp {
                        op,
                        inputs: smallvec![PatchValue::Old(x)],
                    }],
                    replace: vec![(out, PatchValue::New { op: 0, output: 0 })],
                }),
            }
        }
        if patches.is_empty() {
            Outcome::NoMatch
        } else {
            Outcome::Applied(patches)
        }
    }
}

#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack for one match"
)]
enum Fold {
    /// The result is this value.
    Into(ValueId),
    /// The result is this op of this value.
    As(Op, ValueId),
}

/// Reshape of reshape is one reshape, if strides can still express it from the first value.
fn reshape_of_reshape(view: &View<'_>, op: &Reshape, x: ValueId, out: ValueId) -> Option<Fold> {
    let inner = view.producer(x);
    let (Op::Reshape(_), Some(&source)) = (&inner.op, inner.inputs.first()) else {
        return None;
    };
    let from = view.graph.desc(source);
    let direct = from.layout.reshape(&from.shape, &op.shape)?;
    (direct == view.graph.desc(out).layout).then(|| Fold::As(Op::Reshape(op.clone()), source))
}

fn permute_of_permute(view: &View<'_>, op: &Permute, x: ValueId) -> Option<Fold> {
    let inner = view.producer(x);
    let (Op::Permute(first), Some(&source)) = (&inner.op, inner.inputs.first()) else {
        return None;
    };
    let axes: SmallVec<[usize; 4]> = op
        .axes
        .iter()
        .filter_map(|&a| first.axes.get(a).copied())
        .collect();
    Some(Fold::As(Permute { axes }.into(), source))
}

/// Must the copy stay, because one of the two is written in place or the original is memory from outside?
fn shared(view: &View<'_>, x: ValueId, out: ValueId) -> bool {
    let graph = view.graph;
    let leaf = matches!(view.producer(graph.value(x).storage).op, Op::Leaf(_));
    leaf || graph.values().iter().any(|v| {
        let written = graph.node(v.producer).op.spec().alias() == crate::ops::Alias::InPlace;
        written && (v.storage == out || v.storage == graph.value(x).storage)
    })
}
