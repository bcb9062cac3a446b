//! Runs a partition's members on CPU devices, exchange by exchange, with plain sums and copies in between: what a
//! device made of several has to do, in its simplest form.

use std::collections::BTreeMap;
use std::sync::Arc;

use ggrs_core::device::{
    Backend, Bindings, BufferUse, Device, Executable, Precision, Queue, Route, WeightSource,
};
use ggrs_core::ops::{CollectiveKind, Op};
use ggrs_core::plan::{Plan, PlanOptions, plan};
use ggrs_core::{DType, Graph, Sharding, TensorDesc, ValueId};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_meta::{MetaOptions, Partition, SplitPlan, partition};

/// Bytes by name.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

struct Member {
    plan: Arc<Plan>,
    queue: Box<dyn Queue>,
    executable: Box<dyn Executable>,
}

fn device() -> Arc<dyn Device> {
    let backend = CpuBackend::new(CpuOptions {
        threads: Some(1),
        isa: Isa::best(),
    });
    backend.open(&"cpu".parse().unwrap()).unwrap()
}

/// The bytes of a member's part of a tensor.
pub(crate) fn part(bytes: &[u8], desc: &TensorDesc, sharding: &Sharding, member: usize) -> Vec<u8> {
    let Sharding::Split(split) = sharding else {
        return bytes.to_vec();
    };
    let mut out = Vec::new();
    let (outer, size, step) = strides(desc, split.axis());
    for o in 0..outer {
        for range in split.part(member) {
            let at = o * step(size);
            out.extend_from_slice(&bytes[at + step(range.start)..at + step(range.end)]);
        }
    }
    out
}

/// Puts a member's part into the whole.
fn put(whole: &mut [u8], part: &[u8], desc: &TensorDesc, sharding: &Sharding, member: usize) {
    let Sharding::Split(split) = sharding else {
        whole.copy_from_slice(part);
        return;
    };
    let (outer, size, step) = strides(desc, split.axis());
    let mut from = 0;
    for o in 0..outer {
        for range in split.part(member) {
            let len = step(range.len());
            let at = o * step(size) + step(range.start);
            whole[at..at + len].copy_from_slice(&part[from..from + len]);
            from += len;
        }
    }
    assert_eq!(from, part.len(), "a part has the bytes of its ranges");
}

/// How often the axis comes, its size, and the bytes of so many of its elements.
fn strides(desc: &TensorDesc, axis: usize) -> (usize, usize, impl Fn(usize) -> usize) {
    let sizes = desc.shape.sizes();
    let outer = sizes[..axis].iter().product();
    let inner: usize = sizes[axis + 1..].iter().product();
    let dtype = desc.dtype;
    let step = move |n: usize| dtype.row_bytes(n * inner).unwrap();
    (outer, sizes[axis], step)
}

fn options() -> PlanOptions {
    PlanOptions {
        // Rounded activations would hide what a wrong sum does.
        precision: Precision::Exact,
        collectives: Some(Route::outside("test", "moved by the test")),
        ..PlanOptions::default()
    }
}

impl Member {
    fn new(graph: &Graph, whole: &Graph, lies: &[Sharding], data: &Data, member: usize) -> Self {
        let device = device();
        let plan = Arc::new(plan(graph, &*device, &options()).unwrap());
        let mut bindings = Bindings::new();
        let leaves: BTreeMap<&str, ValueId> = whole.leaves().map(|(n, _, v)| (n, v)).collect();
        let own = |name: &str| {
            let value = leaves[name];
            part(&data[name], whole.desc(value), &lies[value.index()], member)
        };
        for slot in &plan.weights {
            let bytes = own(&slot.name);
            let source = WeightSource {
                bytes: &bytes,
                owner: None,
            };
            bindings.insert(slot.name.clone(), device.load_weight(slot, source).unwrap());
        }
        for slot in &plan.states {
            let buffer = device.alloc(slot.bytes, BufferUse::State).unwrap();
            bindings.insert(slot.name.clone(), buffer);
        }
        let mut queue = device.queue().unwrap();
        let executable = device.compile(&plan, &bindings).unwrap();
        for slot in &plan.inputs {
            queue
                .upload(&executable.value(slot.value).unwrap(), &own(&slot.name))
                .unwrap();
        }
        Self {
            plan,
            queue,
            executable,
        }
    }

    fn run(&mut self, steps: std::ops::Range<usize>) {
        let fence = self.queue.submit(&mut *self.executable, steps).unwrap();
        self.queue.wait(fence).unwrap();
    }

    fn read(&mut self, value: ValueId) -> Vec<u8> {
        if self.plan.graph.desc(value).bytes() == Some(0) {
            return Vec::new();
        }
        let slice = self.executable.value(value).unwrap();
        let mut bytes = vec![0; slice.bytes as usize];
        self.queue.download(&slice, &mut bytes).unwrap();
        bytes
    }

    fn write(&mut self, value: ValueId, bytes: &[u8]) {
        if !bytes.is_empty() {
            let slice = self.executable.value(value).unwrap();
            self.queue.upload(&slice, bytes).unwrap();
        }
    }
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    let (all, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    all.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

pub(crate) fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Brings all members from one exchange to behind the next. False if there was none.
fn exchange(members: &mut [Member], at: &mut [usize]) -> bool {
    let mut ops = Vec::new();
    for (member, at) in members.iter_mut().zip(at.iter_mut()) {
        let steps = &member.plan.steps;
        let next = (*at..steps.len())
            .find(|i| steps[*i].is_exchange)
            .unwrap_or(steps.len());
        member.run(*at..next);
        *at = next + 1;
        if let Some(step) = member.plan.steps.get(next) {
            let node = member.plan.graph.node(step.node);
            let Op::Collective(c) = &node.op else {
                panic!("{} is no collective", node.name)
            };
            ops.push((
                node.name.clone(),
                c.clone(),
                node.inputs[0],
                node.outputs[0],
            ));
        }
    }
    if ops.is_empty() {
        return false;
    }
    assert_eq!(ops.len(), members.len(), "all members meet");
    assert!(ops.iter().all(|o| o.0 == ops[0].0), "{ops:?}");
    let given: Vec<Vec<u8>> = ops
        .iter()
        .zip(members.iter_mut())
        .map(|(o, m)| m.read(o.2))
        .collect();
    let n = members.len();
    let lies = |member: usize, axis: usize| {
        let c = &ops[member].1;
        let even = || {
            let g = &members[member].plan.graph;
            let (x, y) = (g.desc(ops[member].2), g.desc(ops[member].3));
            let size = x.shape.sizes()[axis].min(y.shape.sizes()[axis]);
            ggrs_core::Split::by_sizes(axis, &vec![size; n])
        };
        Sharding::Split(
            c.share
                .as_ref()
                .map_or_else(even, |s| s.split.on_axis(axis)),
        )
    };
    let sum = || {
        let mut sum = floats(&given[0]);
        for other in &given[1..] {
            for (a, b) in sum.iter_mut().zip(floats(other)) {
                *a += b;
            }
        }
        bytes(&sum)
    };
    let results: Vec<Vec<u8>> = match ops[0].1.kind {
        CollectiveKind::AllReduce => vec![sum(); n],
        CollectiveKind::ReduceScatter { axis } => {
            let (sum, desc) = (sum(), members[0].plan.graph.desc(ops[0].2).clone());
            (0..n)
                .map(|m| part(&sum, &desc, &lies(m, axis), m))
                .collect()
        }
        CollectiveKind::AllGather { axis } => {
            let desc = members[0].plan.graph.desc(ops[0].3).clone();
            let mut whole = vec![0; desc.bytes().unwrap()];
            for (m, given) in given.iter().enumerate() {
                put(&mut whole, given, &desc, &lies(m, axis), m);
            }
            vec![whole; n]
        }
    };
    for ((member, op), result) in members.iter_mut().zip(&ops).zip(results) {
        member.write(op.3, &result);
    }
    true
}

/// The outputs of a partitioned graph, put together.
pub(crate) fn run_members(graph: &Graph, made: &Partition, data: &Data) -> Data {
    let mut members: Vec<Member> = made
        .graphs
        .iter()
        .enumerate()
        .map(|(i, g)| Member::new(g, graph, &made.shardings, data, i))
        .collect();
    let mut at = vec![0; members.len()];
    while exchange(&mut members, &mut at) {}
    let mut all = Data::new();
    for (name, value) in graph.outputs() {
        let (desc, lies) = (graph.desc(value), &made.shardings[value.index()]);
        let mut whole = vec![0xaa; desc.bytes().unwrap()];
        for (i, member) in members.iter_mut().enumerate() {
            if matches!(lies, Sharding::Split(s) if s.is_empty(i)) {
                continue;
            }
            let own = member.plan.outputs.iter().find(|o| o.name == name);
            let own = own
                .unwrap_or_else(|| panic!("member {i} has no output {name}"))
                .value;
            let bytes = member.read(own);
            put(&mut whole, &bytes, desc, lies, i);
        }
        all.insert(name.to_owned(), whole);
    }
    all
}

/// The outputs on one device.
pub(crate) fn run_whole(graph: &Graph, data: &Data) -> Data {
    let lies = vec![Sharding::Replicated; graph.values().len()];
    let mut member = Member::new(graph, graph, &lies, data, 0);
    let n = member.plan.steps.len();
    member.run(0..n);
    let outputs: Vec<(String, ValueId)> = member
        .plan
        .outputs
        .iter()
        .map(|o| (o.name.clone(), o.value))
        .collect();
    outputs
        .into_iter()
        .map(|(name, value)| (name, member.read(value)))
        .collect()
}

/// Data for every leaf: small random floats; ids, positions and other integers must be given.
pub(crate) fn fill(graph: &Graph, given: Data) -> Data {
    let mut data = given;
    let mut seed = 1u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    for (name, _, value) in graph.leaves() {
        if data.contains_key(name) {
            continue;
        }
        let desc = graph.desc(value);
        let n = desc.shape.elems().unwrap();
        let bytes = match desc.dtype {
            DType::F32 => bytes(&(0..n).map(|_| next()).collect::<Vec<f32>>()),
            // Halves of one binade, both signs.
            DType::F16 => (0..n)
                .flat_map(|_| {
                    (0x3400 | (((next() + 0.5) * 1023.0) as u16) << 1 ^ 0x8000).to_le_bytes()
                })
                .collect(),
            DType::Q8_0 => (0..n / 32)
                .flat_map(|_| {
                    // A scale of 1/256 as F16, then 32 signed bytes.
                    let mut block = 0x1c00u16.to_le_bytes().to_vec();
                    block.extend((0..32).map(|_| (next() * 254.0) as i8 as u8));
                    block
                })
                .collect(),
            dtype => panic!("give {name} ({dtype})"),
        };
        data.insert(name.to_owned(), bytes);
    }
    data
}

/// Splits, runs and compares with one device.
pub(crate) fn same(graph: &Graph, data: &Data, members: usize, options: &MetaOptions) -> Partition {
    let plan = SplitPlan::new(graph, members, options).unwrap();
    let made = partition(graph, &plan, options).unwrap();
    let (expected, found) = (run_whole(graph, data), run_members(graph, &made, data));
    for (name, value) in graph.outputs() {
        if graph.desc(value).dtype == DType::I32 {
            assert_eq!(
                found[name], expected[name],
                "{name}, {members} members, {options:?}"
            );
            continue;
        }
        let (a, b) = (floats(&expected[name]), floats(&found[name]));
        let scale = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!(
                (a - b).abs() <= 1e-4 * scale,
                "{name}[{i}]: {a} on one device, {b} on {members} members, {options:?}\n{}",
                plan.explain()
            );
        }
    }
    made
}
