//! glu(matmul(gate, x), matmul(up, x)) -> matmul_glu(gate, up, x), with and without experts.

use smallvec::SmallVec;

use super::pattern::View;
use super::{Outcome, Pass, Rejection};
use crate::ops::{Glu, GluInput, MatMulGlu, MatMulIdGlu, Op};
use crate::{Graph, Patch, PatchOp, PatchValue};

pub(super) struct FuseGateUp;

impl Pass for FuseGateUp {
    fn name(&self) -> &'static str {
        "fuse_gate_up"
    }

    fn run(&self, graph: &Graph) -> Outcome {
        let view = View::of(graph);
        let (mut patches, mut rejected) = (Vec::new(), Vec::new());
        for (id, node) in graph.iter() {
            let (
                Op::Glu(Glu {
                    kind,
                    input: GluInput::Split,
                }),
                &[gate, up],
            ) = (&node.op, &node.inputs[..])
            else {
                continue;
            };
            let (g, u) = (view.producer(gate), view.producer(up));
            let (op, inputs): (Op, SmallVec<[PatchValue; 4]>) =
                match (&g.op, &g.inputs[..], &u.op, &u.inputs[..]) {
                    (Op::MatMul(_), &[wg, x], Op::MatMul(_), &[wu, y]) if x == y => (
                        MatMulGlu { kind: *kind }.into(),
                        [wg, wu, x].into_iter().map(PatchValue::Old).collect(),
                    ),
                    (Op::MatMulId(g), &[wg, x, ids], Op::MatMulId(u), &[wu, y, jds])
                        if x == y && ids == jds && g == u =>
                    {
                        let (kind, window) = (*kind, g.window);
                        (
                            MatMulIdGlu { kind, window }.into(),
                            [wg, wu, x, ids].into_iter().map(PatchValue::Old).collect(),
                        )
                    }
                    (Op::MatMul(_) | Op::MatMulId(_), _, Op::MatMul(_) | Op::MatMulId(_), _) => {
                        rejected.push(Rejection {
                            node: id,
                            why: "gate and up are products of different activations",
                        });
                        continue;
                    }
                    _ => continue,
                };
            if view.only_user(gate).is_none() || view.only_user(up).is_none() {
                rejected.push(Rejection {
                    node: id,
                    why: "gate or up is used elsewhere too",
                });
                continue;
            }
            let Some(&out) = node.outputs.first() else {
                continue;
            };
            let replace = vec![(out, PatchValue::New { op: 0, output: 0 })];
            patches.push(Patch {
                at: id,
                ops: vec![PatchOp { op, inputs }],
                replace,
            });
        }
        Outcome::of(patches, rejected)
    }
}
