//! Graphs that hand values to other devices and take some over: driven as the scheduler drives them.

use std::sync::Arc;

use ggrs_core::device::{Device, Executable, Precision, Queue};
use ggrs_core::ops::{Op, Receive, Send};
use ggrs_core::plan::Plan;
use ggrs_core::{Cut, DType, Graph, GraphBuilder, Link, Role, TensorDesc};

use crate::mlp::{
    RATIOS, assert_close, bound, meta, numbers, planned, to_bytes, to_floats, weight_bytes,
};

const N: usize = 24;
const ROWS: usize = 3;

/// `a = x w1` and `b = x w2` as partial sums, sent one after the other; what comes back is `c`; the result is `w3 c`,
/// cut, sent again, and read as an output too.
fn graph() -> Graph {
    let mut g = GraphBuilder::new();
    let mut weight = |name, axis| {
        let leaf = g.weight(name, DType::F32, [N, N]).unwrap();
        let role = Role {
            links: [Link::new("width", Cut::Width, N, axis, 1)]
                .into_iter()
                .collect(),
            ..Role::default()
        };
        g.describe(leaf, role).unwrap();
        leaf
    };
    let (up, first, second, last) = (
        weight("up", 0),
        weight("first", 1),
        weight("second", 1),
        weight("last", 0),
    );
    let x = g.input("x", DType::F32, [ROWS, N]).unwrap();
    let h = g.matmul(up, x).unwrap();
    let a = g.matmul(first, h).unwrap();
    let b = g.matmul(second, h).unwrap();
    g.push(Send { tag: 0 }, &[a]).unwrap();
    g.push(Send { tag: 1 }, &[b]).unwrap();
    let desc = TensorDesc::new(DType::F32, [ROWS, N]);
    let c = g.push(Receive { tag: 2, desc }, &[]).unwrap()[0];
    let y = g.matmul(last, c).unwrap();
    g.push(Send { tag: 3 }, &[y]).unwrap();
    g.output("y", y).unwrap();
    g.seal().unwrap()
}

/// Runs the steps between exchanges; at each exchange gives the value to `exchange`.
fn drive(
    plan: &Arc<Plan>,
    queue: &mut dyn Queue,
    executable: &mut dyn Executable,
    mut exchange: impl FnMut(&Op, &mut [u8]),
) {
    let mut start = 0;
    for (i, step) in plan.steps.iter().enumerate() {
        if !step.is_exchange {
            continue;
        }
        if start < i {
            let fence = queue.submit(executable, start..i).unwrap();
            queue.wait(fence).unwrap();
        }
        start = i + 1;
        let node = plan.graph.node(step.node);
        let is_send = matches!(node.op, Op::Send(_));
        let value = if is_send {
            node.inputs[0]
        } else {
            node.outputs[0]
        };
        let slice = executable.value(value).unwrap();
        let mut data = vec![0; usize::try_from(slice.bytes).unwrap()];
        if is_send {
            queue.download(&slice, &mut data).unwrap();
        }
        exchange(&node.op, &mut data);
        if !is_send {
            queue.upload(&slice, &data).unwrap();
        }
    }
    if start < plan.steps.len() {
        queue.submit(executable, start..plan.steps.len()).unwrap();
    }
}

/// `w x` for every row of x.
fn product(plan: &Plan, weight: &str, x: &[f64]) -> Vec<f64> {
    let w = to_floats(&weight_bytes(plan, weight));
    let dot = |w: &[f32], x: &[f64]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
    x.chunks_exact(N)
        .flat_map(|x| w.chunks_exact(N).map(|w| dot(w, x)).collect::<Vec<f64>>())
        .collect()
}

#[test]
fn handovers_come_in_the_order_of_the_whole_graph() {
    for ratios in RATIOS {
        let device = meta(ratios);
        let plan = planned(&*device, &graph(), Precision::Exact);
        let mut executable = device.compile(&plan, &bound(&*device, &plan)).unwrap();
        let mut queue = device.queue().unwrap();
        for seed in [1, 2] {
            let (x, c) = (numbers(ROWS * N, seed), numbers(ROWS * N, seed + 10));
            let input = executable.value(plan.inputs[0].value).unwrap();
            queue.upload(&input, &to_bytes(&x)).unwrap();
            let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
            let h = product(&plan, "up", &wide(&x));
            let y = product(&plan, "last", &wide(&c));
            let mut tags = Vec::new();
            drive(&plan, &mut *queue, &mut *executable, |op, data| match op {
                Op::Send(send) => {
                    let expected = match send.tag {
                        0 => product(&plan, "first", &h),
                        1 => product(&plan, "second", &h),
                        _ => y.clone(),
                    };
                    assert_close(data, &expected, &format!("send {} at {ratios:?}", send.tag));
                    tags.push(send.tag);
                }
                Op::Receive(receive) => {
                    data.copy_from_slice(&to_bytes(&c));
                    tags.push(receive.tag);
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(tags, [0, 1, 2, 3]);
            let output = executable.value(plan.outputs[0].value).unwrap();
            let mut data = vec![0; usize::try_from(output.bytes).unwrap()];
            queue.download(&output, &mut data).unwrap();
            assert_close(&data, &y, "y");
        }
    }
}
