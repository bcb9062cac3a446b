//! rms_norm(x) * weight -> weighted rms_norm(x, weight).

use smallvec::smallvec;

use super::pattern::View;
use super::{Outcome, Pass, Rejection};
use crate::ops::{Binary, BinaryKind, Op, RmsNorm};
use crate::{DType, Graph, Patch, PatchOp, PatchValue};

pub(super) struct FuseNormMul;

impl Pass for FuseNormMul {
    fn name(&self) -> &'static str {
        "fuse_norm_mul"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let view = View::of(graph);
        let (mut patches, mut rejected) = (Vec::new(), Vec::new());
        for (id, node) in graph.iter() {
            let (
                Op::Binary(Binary {
                    kind: BinaryKind::Mul,
                }),
                &[a, b],
            ) = (&node.op, &node.inputs[..])
            else {
                continue;
            };
            // The norm may stand on either side.
            let norm_of = |v| match view.producer(v) {
                n if matches!(
                    n.op,
                    Op::RmsNorm(RmsNorm {
                        weighted: false,
                        ..
                    })
                ) =>
                {
                    Some((v, n))
                }
                _ => None,
            };
            let (Some((normed, norm)), weight) = (match norm_of(a) {
                Some(n) => (Some(n), b),
                None => (norm_of(b), a),
            }) else {
                continue;
            };
            let desc = graph.desc(weight);
            let fits = desc.dtype == DType::F32
                && desc.is_contiguous()
                && desc.rank() == 1
                && desc.shape.last() == graph.desc(normed).shape.last();
            if !fits {
                rejected.push(Rejection {
                    node: id,
                    why: "the factor is not an F32 vector as wide as the norm",
                });
                continue;
            }
            if view.only_user(normed).is_none() {
                rejected.push(Rejection {
                    node: id,
                    why: "the norm without weight is used elsewhere too",
                });
                continue;
            }
            let (Op::RmsNorm(op), Some(&x), Some(&out)) =
                (&norm.op, norm.inputs.first(), node.outputs.first())
            else {
                continue;
            };
            patches.push(Patch {
                at: id,
                ops: vec![PatchOp {
                    op: RmsNorm {
                        eps: op.eps,
                        weighted: true,
                    }
                    .into(),
                    inputs: smallvec![PatchValue::Old(x), PatchValue::Old(weight)],
                }],
                replace: vec![(out, PatchValue::New { op: 0, output: 0 })],
            });
        }
        Outcome::of(patches, rejected)
    }
}

impl Outcome {
    /// Patches if there are any, else what was rejected.
    pub(super) fn of(patches: Vec<Patch>, rejected: Vec<Rejection>) -> Self {
        match (patches.is_empty(), rejected.is_empty()) {
            (false, _) => Self::Applied(patches),
            (true, false) => Self::Rejected(rejected),
            (true, true) => Self::NoMatch,
        }
    }
}
