//! Bytes of tensors that lie over members: any range can be read and written, partial sums cannot be read by mistake.

use std::sync::Arc;

use ggrs_core::device::{BufferSlice, Device, Queue, WeightSource};
use ggrs_core::plan::plan;
use ggrs_core::{
    Cut, DType, Graph, GraphBuilder, Link, Role, RoleKind, Sharding, Stretch, ValueId,
};
use ggrs_sched::Placement;
use ggrs_tests::placed::{cpu_members, nmse};
use ggrs_tests::random::RandomInputs;

use crate::joined::{cpu_split, joined};
use crate::placed_graph::{Scene, exact, floats, n_bytes, n_split, same_as_one_when_split};
use crate::small_graphs::{Experts, Heads, at_positions, attention, experts_scene, step_inputs};

const ROWS: usize = 5;
const POSITIONS: usize = 6;

/// A state of several segments per row, as a recurrent state of `[q | k | v]` has, and a weight cut likewise.
fn segmented(dtype: DType, units: &[usize]) -> Graph {
    let width: usize = units.iter().map(|u| u * POSITIONS).sum();
    let mut b = GraphBuilder::new();
    let mut link = Link::new("channels", Cut::Heads, POSITIONS, 1, units[0]);
    link.stretches = units
        .iter()
        .map(|unit| Stretch {
            unit: *unit,
            shared_by: 1,
        })
        .collect();
    let x = b.input("x", DType::F32, [ROWS, width]).unwrap();
    let s = b.state("s", dtype, [ROWS, width]).unwrap();
    b.describe(s, Role::in_layer(RoleKind::Recurrent, 0).with(link.clone()))
        .unwrap();
    let w = b.weight("w", DType::F32, [1, width]).unwrap();
    b.describe(w, Role::in_layer(RoleKind::Recurrent, 0).with(link))
        .unwrap();
    let y = b.mul(x, w).unwrap();
    b.store(s, y).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}

/// Reads and writes at random places of a buffer against host memory.
fn ranges_hold(queue: &mut dyn Queue, whole: &BufferSlice, random: &mut RandomInputs, what: &str) {
    let n = usize::try_from(whole.bytes).unwrap();
    let bytes = |random: &mut RandomInputs, n: usize| -> Vec<u8> {
        (0..n).map(|_| random.below(256) as u8).collect()
    };
    let mut shadow = bytes(random, n);
    queue.upload(whole, &shadow).unwrap();
    for turn in 0..60 {
        let start = random.below(n);
        let len = 1 + random.below(n - start);
        let range = whole.range("", start as u64, len as u64).unwrap();
        match turn % 3 {
            0 => {
                let new = bytes(random, len);
                queue.upload(&range, &new).unwrap();
                shadow[start..start + len].copy_from_slice(&new);
            }
            1 => {
                let byte = random.below(256) as u8;
                queue.fill(&range, byte).unwrap();
                shadow[start..start + len].fill(byte);
            }
            _ => {}
        }
        let mut read = vec![0; len];
        queue.download(&range, &mut read).unwrap();
        assert!(
            read == shadow[start..start + len],
            "{what}: bytes {start}..{}",
            start + len
        );
    }
    let mut all = vec![0; n];
    queue.download(whole, &mut all).unwrap();
    assert!(all == shadow, "{what}: the whole");
}

/// The peer reads and writes split tensors of several segments only whole, or in rows, and aborts otherwise: saving an
/// idle slot kills the server. GGRS reads and writes any bytes of any split.
#[test]
fn i22307_i21876_seed_1_any_bytes_of_a_segmented_split() {
    let mut random = RandomInputs::new(22307);
    for (n, ratios) in [
        (1, &[][..]),
        (2, &[1.0, 1.0]),
        (2, &[3.0, 1.0]),
        (2, &[1.0, 0.0]),
        (3, &[30.0, 25.0, 1.0]),
        (4, &[]),
        (5, &[]),
    ] {
        for (dtype, units) in [
            (DType::F32, &[1][..]),
            (DType::F32, &[2, 1, 3]),
            (DType::F16, &[1, 1, 2, 4]),
            (DType::Q8_0, &[32, 64, 32]),
        ] {
            let what = format!("{n} members {ratios:?}, {dtype}, segments {units:?}");
            let device = joined(cpu_members(n), ratios);
            let graph = segmented(dtype, units);
            let plan = plan(&graph, &*device, &exact()).unwrap();
            let slot = plan.state("s").unwrap();
            if n > 1 {
                let shards = slot.shards.as_ref().expect("shards");
                assert!(matches!(shards.sharding, Sharding::Split(_)), "{what}");
            }
            let whole = BufferSlice::whole(device.alloc_state(slot).unwrap());
            let mut queue = device.queue().unwrap();
            assert_eq!(whole.bytes, slot.bytes);
            ranges_hold(&mut *queue, &whole, &mut random, &what);

            let slot = plan.weight("w").unwrap();
            let bytes = random.weights(DType::F32, slot.desc.shape.elems().unwrap(), 1.0);
            let source = WeightSource {
                bytes: &bytes,
                owner: None,
            };
            let weight = device.load_weight(slot, source).unwrap();
            assert!(
                device.read_weight(slot, &*weight).unwrap() == bytes,
                "{what}: the weight"
            );
            let tail = BufferSlice::whole(weight)
                .range("", 5, bytes.len() as u64 - 9)
                .unwrap();
            let mut read = vec![0; bytes.len() - 9];
            queue.download(&tail, &mut read).unwrap();
            assert!(
                read == bytes[5..bytes.len() - 4],
                "{what}: bytes of the weight"
            );
        }
    }
}

/// What a run leaves in such a state is what one device leaves there, read in pieces.
#[test]
fn i22307_i21876_seed_1_a_state_written_by_a_run_is_read_in_pieces() {
    for (n, ratios) in [(2, &[3.0, 1.0][..]), (3, &[]), (4, &[1.0, 0.0, 2.0, 1.0])] {
        let scene = Scene::new(segmented(DType::F16, &[2, 1, 3]));
        let state = |device: Arc<dyn Device>| {
            let placement = Placement::on(Arc::clone(&device));
            let plan = scene.plan(&placement).unwrap();
            let bindings = scene.bind(&placement, &plan).unwrap();
            let mut compiled = crate::placed_graph::runner(&placement, &plan, &bindings).unwrap();
            scene.run(&mut compiled).unwrap();
            let slot = plan.parts[0].plan.state("s").unwrap();
            let whole = BufferSlice::whole(Arc::clone(bindings[0].get("s").unwrap()));
            let mut queue = device.queue().unwrap();
            let mut bytes = vec![0; usize::try_from(slot.bytes).unwrap()];
            for (i, piece) in bytes.chunks_mut(7).enumerate() {
                let range = whole.range("", 7 * i as u64, piece.len() as u64).unwrap();
                queue.download(&range, piece).unwrap();
            }
            bytes
        };
        let expected = state(cpu_members(1).remove(0));
        assert_eq!(expected.len(), n_bytes(DType::F16, &[ROWS, 36]));
        assert!(expected.iter().any(|b| *b != 0));
        let found = state(joined(cpu_members(n), ratios));
        assert!(found == expected, "{n} members {ratios:?}");
    }
}

/// Two layers of attention; what the first one's output projection gives is an output of its own.
fn observed() -> Scene {
    let mut b = GraphBuilder::new();
    let (x, pages) = step_inputs(&mut b, 3, 32);
    let first = attention(&mut b, 0, x, pages, Heads::new(4, 2, 16));
    let x = b.add(x, first).unwrap();
    let y = attention(&mut b, 1, x, pages, Heads::new(4, 2, 16));
    let y = b.add(x, y).unwrap();
    b.output("y", y).unwrap();
    b.output("observed", first).unwrap();
    at_positions(Scene::new(b.seal().unwrap()), 0, 3)
}

/// The peer's callback for activations (imatrix, debugging) sees partial sums, and the graph goes on with them. In
/// GGRS an observed value is an output, and an output is the sum.
#[test]
fn eval_callback_an_observed_partial_sum_is_the_sum() {
    for n in [2, 3, 4] {
        same_as_one_when_split(
            &observed(),
            &cpu_split(n, &[]),
            &format!("observed, {n} members"),
        );
    }
}

/// The peer never adds up a sum that ends the graph. GGRS's outputs are never partial.
#[test]
fn eval_callback_a_graph_that_ends_in_a_partial_sum() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [3, 64]).unwrap();
    let w = b.weight("down", DType::F32, [16, 64]).unwrap();
    let link = Link::new("ffn", Cut::Width, 64, 1, 1);
    b.describe(w, Role::in_layer(RoleKind::Dense, 0).with(link))
        .unwrap();
    let y = b.matmul(w, x).unwrap();
    b.output("y", y).unwrap();
    let graph = b.seal().unwrap();
    let device = joined(cpu_members(3), &[]);
    let planned = plan(&graph, &*device, &exact()).unwrap();
    for output in &planned.outputs {
        assert_ne!(planned.shardings[output.value.index()], Sharding::Partial);
    }
    same_as_one_when_split(&Scene::new(graph), &cpu_split(3, &[]), "a last sum");
}

/// A read of a value that each member has only a part of the sum of: the peer aborts, or returns the first member's.
/// GGRS has no address for it: what can be read is whole.
#[test]
fn class_c_a_partial_sum_cannot_be_read_by_mistake() {
    let sizes = Experts {
        n: 4,
        n_used: 2,
        width: 32,
        weights: DType::F32,
    };
    let scene = experts_scene(3, 32, sizes);
    let device = joined(cpu_members(2), &[]);
    let placement = Placement::on(Arc::clone(&device) as Arc<dyn Device>);
    let planned = scene.plan(&placement).unwrap();
    let bindings = scene.bind(&placement, &planned).unwrap();
    let planned = &planned.parts[0].plan;
    let executable = device.compile(planned, &bindings[0]).unwrap();
    let values = planned
        .graph
        .iter()
        .flat_map(|(_, node)| node.outputs.iter().copied());
    let partial = |v: &ValueId| planned.shardings[v.index()] == Sharding::Partial;
    let (partial, whole): (Vec<ValueId>, Vec<ValueId>) = values.partition(partial);
    assert!(
        partial.len() >= 2,
        "experts' answers are added up late: {}",
        planned.explain()
    );
    assert!(partial.iter().all(|v| executable.value(*v).is_none()));
    let seen = whole
        .iter()
        .filter(|v| executable.value(**v).is_some())
        .count();
    assert!(
        seen > planned.weights.len(),
        "inputs, outputs and weights have addresses"
    );
}

/// Several sequences' rows of one output, each read for itself and right after the run was started: the peer's
/// asynchronous read of a split tensor asserts offset 0, so pooling more than one sequence aborts.
#[test]
fn i22307_pooled_rows_are_read_at_offsets_right_after_submit() {
    let (n_tokens, n_embd, width) = (7, 32, 48);
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [n_tokens, n_embd]).unwrap();
    let w = b.weight("w", DType::F32, [width, n_embd]).unwrap();
    let link = Link::new("hidden", Cut::Width, width, 0, 1);
    b.describe(w, Role::in_layer(RoleKind::Dense, 0).with(link))
        .unwrap();
    let y = b.matmul(w, x).unwrap();
    b.output("pooled", y).unwrap();
    let scene = Scene::new(b.seal().unwrap());
    let expected = &scene.expected()["pooled"];
    for (n, ratios) in [(2, &[][..]), (3, &[5.0, 0.0, 2.0])] {
        let device = joined(cpu_members(n), ratios);
        let placement = Placement::on(Arc::clone(&device) as Arc<dyn Device>);
        let planned = scene.plan(&placement).unwrap();
        assert!(n_split(&planned) > 0);
        let bindings = scene.bind(&placement, &planned).unwrap();
        let plan = &planned.parts[0].plan;
        let mut executable = device.compile(plan, &bindings[0]).unwrap();
        let mut queue = device.queue().unwrap();
        let input = executable.value(plan.inputs[0].value).unwrap();
        let output = executable.value(plan.outputs[0].value).unwrap();
        for row in [3, 0, 6, 2] {
            queue.upload(&input, &scene.data["x"]).unwrap();
            let steps = 0..plan.steps.len();
            queue.submit(&mut *executable, steps).unwrap();
            // One row, then the middle of one, from bytes that cross the members' borders.
            for (start, len) in [(row * width, width), (row * width + 11, 20)] {
                let range = output.range("", 4 * start as u64, 4 * len as u64).unwrap();
                let mut bytes = vec![0; 4 * len];
                queue.download(&range, &mut bytes).unwrap();
                let error = nmse(&floats(&bytes), &expected[start..start + len]);
                assert!(error <= 1e-10, "{n} members, row {row}: NMSE {error:e}");
            }
        }
    }
}
