//! s = a + b; rms_norm(s, weight) -> add_rms_norm(a, b, weight), which gives both.

use smallvec::smallvec;

use super::pattern::View;
use super::{Outcome, Pass, Rejection};
use crate::ops::{AddRmsNorm, Binary, BinaryKind, Op, RmsNorm};
use crate::{Graph, Patch, PatchOp, PatchValue};

pub(super) struct FuseAddNorm;

impl Pass for FuseAddNorm {
    fn name(&self) -> &'static str {
        "fuse_add_norm"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let view = View::of(graph);
        let (mut patches, mut rejected) = (Vec::new(), Vec::new());
        for (id, node) in graph.iter() {
            let (
                Op::Binary(Binary {
                    kind: BinaryKind::Add,
                }),
                &[a, b],
                &[sum],
            ) = (&node.op, &node.inputs[..], &node.outputs[..])
            else {
                continue;
            };
            let norm = view.users(sum).iter().find_map(|u| {
                match (&graph.node(*u).op, &graph.node(*u).inputs[..]) {
                    (
                        Op::RmsNorm(RmsNorm {
                            eps,
                            weighted: true,
                        }),
                        &[x, w],
                    ) if x == sum => Some((*u, *eps, w)),
                    _ => None,
                }
            });
            let Some((norm, eps, weight)) = norm else {
                continue;
            };
            // Strides of axes of size 1 say nothing: a decode step's views differ in them.
            let (x, y) = (graph.desc(a), graph.desc(b));
            let alike = x.dtype == y.dtype && x.shape == y.shape;
            if !alike || !x.is_contiguous() || !y.is_contiguous() {
                rejected.push(Rejection {
                    node: id,
                    why: "the summands differ in shape or dtype, or have gaps",
                });
                continue;
            }
            let normed = graph.node(norm).outputs.first().copied();
            let Some(normed) = normed.filter(|_| view.is_constant(weight)) else {
                rejected.push(Rejection {
                    node: id,
                    why: "the norm's weight is computed",
                });
                continue;
            };
            patches.push(Patch {
                at: id,
                ops: vec![PatchOp {
                    op: AddRmsNorm { eps }.into(),
                    inputs: smallvec![
                        PatchValue::Old(a),
                        PatchValue::Old(b),
                        PatchValue::Old(weight)
                    ],
                }],
                replace: vec![
                    (sum, PatchValue::New { op: 0, output: 0 }),
                    (normed, PatchValue::New { op: 0, output: 1 }),
                ],
            });
        }
        Outcome::of(patches, rejected)
    }
}
