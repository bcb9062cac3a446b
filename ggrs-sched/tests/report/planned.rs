//! Reports of real plans, over devices that run nothing: what they say is compared with what was placed by hand.

use std::sync::Arc;

use ggrs_core::device::null::NullDevice;
use ggrs_core::device::{
    Bindings, Buffer, BufferUse, Device, DeviceInfo, Executable, Limits, MemoryReport, Precision,
    Queue, Route, RouteRequest, WeightForm, WeightSource, WeightUse,
};
use ggrs_core::ops::{Collective, CollectiveKind};
use ggrs_core::plan::{Plan, PlanOptions, PlanParts, WeightSlot};
use ggrs_core::{
    BindError, DType, DeviceError, Graph, GraphBuilder, PlanError, Role, RoleKind, Sharding, Split,
    TensorDesc, Unsupported, Value,
};
use ggrs_sched::report::{
    Arrangement, DeviceFacts, Exchange, ModelReport, NoteKind, PlanReport, PlannedStep,
    ReportFacts, TextOptions, report_of,
};
use ggrs_sched::{Leaves, Pattern, Pin, Placement, SchedPlan, Spread};

const F: DType = DType::F32;
/// Bytes that every device claims to have.
const MEMORY: u64 = 8192;

fn null(i: usize) -> NullDevice {
    NullDevice::new(format!("null:{i}").parse().unwrap(), MEMORY)
}

fn leaf(b: &mut GraphBuilder, name: &str, shape: [usize; 2], role: Role) -> Value {
    let w = b.weight(name, F, shape).unwrap();
    b.describe(w, role).unwrap();
    w
}

/// `x = x + w x` in every layer, between a table and a head; 3 tokens.
fn chain(n_layers: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let table = leaf(
        &mut b,
        "token_embd.weight",
        [32, 16],
        Role::new(RoleKind::Embedding),
    );
    let ids = b.input("tokens", DType::I32, [3]).unwrap();
    let mut x = b.get_rows(table, ids).unwrap();
    for layer in 0..n_layers {
        b.scope(&format!("blk.{layer}"));
        let role = Role::in_layer(RoleKind::Dense, layer);
        let w = leaf(&mut b, &format!("blk.{layer}.w.weight"), [16, 16], role);
        let y = b.matmul(w, x).unwrap();
        x = b.add(y, x).unwrap();
    }
    b.scope("");
    let logits = b.matmul(table, x).unwrap();
    b.output("logits", logits).unwrap();
    b.seal().unwrap()
}

fn facts(devices: Vec<DeviceFacts>) -> ReportFacts {
    ReportFacts {
        model: ModelReport {
            name: "chain".to_owned(),
            ..ModelReport::default()
        },
        context: Default::default(),
        split: "by hand".to_owned(),
        devices,
    }
}

fn reported(graph: &Graph, placement: &Placement, members: Vec<Vec<DeviceInfo>>) -> PlanReport {
    let plan = SchedPlan::new(graph, placement, &PlanOptions::default()).unwrap();
    let devices = placement.devices.iter().zip(members);
    let devices = devices.map(|(d, members)| DeviceFacts {
        info: d.info(),
        members,
    });
    let step = PlannedStep {
        name: "three tokens".to_owned(),
        n_tokens: 3,
        plan: &plan,
    };
    report_of(facts(devices.collect()), &[step])
}

/// The arrangement and the devices of a role in a layer.
fn cell(report: &PlanReport, layer: &str, role: &str) -> (Arrangement, Vec<(usize, u64)>) {
    let layer = report
        .layers
        .iter()
        .find(|l| l.name == layer)
        .expect("the layer");
    let cell = layer
        .cells
        .iter()
        .find(|c| c.role == role)
        .expect("the role");
    let parts = cell.parts.iter().map(|p| (p.device, p.bytes)).collect();
    (cell.arrangement, parts)
}

#[test]
fn layers_copies_and_pins_stand_where_they_were_put() {
    let placement = Placement {
        devices: vec![Arc::new(null(0)), Arc::new(null(1))],
        spread: Spread::Layers {
            shares: vec![(0, 1.0), (1, 1.0)],
            n_spread: None,
            rest: 0,
        },
        pins: vec![Pin {
            leaves: Leaves::Name(Pattern::new("blk.3.*").unwrap()),
            layers: None,
            device: 0,
            origin: "--override-tensor blk.3.*=null:0".to_owned(),
        }],
        stream_experts_from: None,
    };
    let report = reported(&chain(4), &placement, vec![vec![], vec![]]);
    let names: Vec<&str> = report.layers.iter().map(|l| &*l.name).collect();
    assert_eq!(names, ["input", "0", "1", "2", "3"]);
    for (layer, role, device, bytes) in [
        ("input", "embedding", 0, 2048),
        ("1", "dense", 0, 1024),
        ("2", "dense", 1, 1024),
        ("3", "dense", 0, 1024),
    ] {
        assert_eq!(
            cell(&report, layer, role),
            (Arrangement::Whole, vec![(device, bytes)]),
            "{layer}"
        );
    }
    // The residual goes to layer 2's product, which comes back to be added to it.
    let step = &report.steps[0];
    let copies: Vec<_> = step
        .copies()
        .map(|c| (c.from, c.to, &*c.layer, c.bytes))
        .collect();
    assert_eq!(copies.first(), Some(&(Some(0), 1, "2", 192)));
    assert_eq!(copies[1..], [(Some(1), 0, "2", 192)]);
    let why = &step.copies().next().unwrap().why;
    assert!(why.contains("blk.2.w.weight"), "{why}");
    // Every op once, in its layer, on its device; the head is the embedding read again.
    assert_eq!(step.ops.len(), 1 + 4 * 2 + 1);
    let head = step
        .ops
        .iter()
        .find(|o| o.op == "matmul" && o.layer == "output");
    assert_eq!(head.map(|o| o.device), Some(0), "{:?}", step.ops);
    let product = step.ops.iter().find(|o| o.node == "blk.2.matmul").unwrap();
    assert_eq!(
        (product.device, &*product.layer, product.flops),
        (1, "2", 2.0 * 3.0 * 256.0)
    );
    let pins = report.notes.iter().filter(|n| n.kind == NoteKind::Pin);
    let pins: Vec<_> = pins.map(|n| (&*n.subject, &*n.text)).collect();
    assert_eq!(
        pins,
        [(
            "--override-tensor blk.3.*=null:0",
            "blk.3.w.weight on null:0"
        )]
    );
    // Weights: table and three layers here, one there.
    let weights: Vec<u64> = report.devices.iter().map(|d| d.bytes.weights).collect();
    assert_eq!(weights, [2048 + 3 * 1024, 1024]);
    for device in &report.devices {
        assert_eq!(
            device.margin_bytes,
            Some(MEMORY as i64 - device.bytes.total() as i64)
        );
    }
}

#[test]
fn devices_in_one_memory_share_what_is_left_and_a_lack_is_told() {
    // The same device twice: both halves of the model are taken from one memory.
    let placement = Placement {
        devices: vec![Arc::new(null(0)), Arc::new(null(0))],
        spread: Spread::Layers {
            shares: vec![(0, 1.0), (1, 1.0)],
            n_spread: None,
            rest: 0,
        },
        pins: Vec::new(),
        stream_experts_from: None,
    };
    let report = reported(&chain(8), &placement, vec![vec![], vec![]]);
    let taken: u64 = report.devices.iter().map(|d| d.bytes.total()).sum();
    assert!(taken > MEMORY);
    for (i, device) in report.devices.iter().enumerate() {
        assert_eq!(device.shares_memory_with, [1 - i]);
        assert_eq!(device.margin_bytes, Some(MEMORY as i64 - taken as i64));
    }
    let told = report.notes.iter().filter(|n| n.kind == NoteKind::Warning);
    assert_eq!(told.count(), 2);
    assert!(report.to_text(TextOptions::default()).contains("MISSING"));
}

/// Two members that each have half of a weight's columns and add up their products.
struct Pair(NullDevice);

impl Device for Pair {
    fn plan(&self, graph: &Arc<Graph>, options: &PlanOptions) -> Result<PlanParts, PlanError> {
        let member = |i: usize| {
            let mut b = GraphBuilder::new();
            let x = b.input("x", F, [1, 8]).unwrap();
            let w = b.weight("blk.0.down.weight", F, [16, 8]).unwrap();
            let part = b.matmul(w, x).unwrap();
            let sum = Collective::even(CollectiveKind::AllReduce, 2);
            let sums = b.push_named("sum", sum, &[part]).unwrap();
            let norm = b.weight("output_norm.weight", F, [16]).unwrap();
            let y = b.rms_norm(sums[0], Some(norm), 1e-6).unwrap();
            b.output("y", y).unwrap();
            let graph = b.seal().unwrap();
            Ok(Arc::new(ggrs_core::plan::plan(&graph, &null(i), options)?))
        };
        let members: Result<Vec<Arc<Plan>>, PlanError> = (0..2).map(member).collect();
        let lies = |name: &str| match name {
            "blk.0.down.weight" => Sharding::Split(Split::by_sizes(1, &[8, 8])),
            "x" => Sharding::Split(Split::by_sizes(1, &[8, 8])),
            _ => Sharding::Replicated,
        };
        let values = graph.values().iter();
        let shardings = values.map(|v| lies(&graph.node(v.producer).name)).collect();
        Ok(PlanParts::of_members(
            graph,
            options.precision,
            members?,
            shardings,
        ))
    }

    fn info(&self) -> DeviceInfo {
        self.0.info()
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn memory(&self) -> MemoryReport {
        self.0.memory()
    }
    fn route(&self, request: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        self.0.route(request)
    }
    fn weight_form(&self, d: &TensorDesc, u: &[WeightUse<'_>], p: Precision) -> WeightForm {
        self.0.weight_form(d, u, p)
    }
    fn weight_bytes(&self, desc: &TensorDesc, form: WeightForm) -> u64 {
        self.0.weight_bytes(desc, form)
    }
    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.0.alloc(bytes, usage)
    }
    fn load_weight(
        &self,
        s: &WeightSlot,
        w: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.0.load_weight(s, w)
    }
    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        self.0.read_weight(slot, buffer)
    }
    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        self.0.queue()
    }
    fn compile(&self, plan: &Arc<Plan>, b: &Bindings) -> Result<Box<dyn Executable>, BindError> {
        self.0.compile(plan, b)
    }
}

#[test]
fn members_have_their_own_bytes_ops_and_collectives() {
    let mut b = GraphBuilder::new();
    let x = b.input("x", F, [1, 16]).unwrap();
    let role = Role::in_layer(RoleKind::Dense, 0);
    let w = leaf(&mut b, "blk.0.down.weight", [16, 16], role);
    let sum = b.matmul(w, x).unwrap();
    let norm = b.weight("output_norm.weight", F, [16]).unwrap();
    b.describe(norm, Role::new(RoleKind::Norm)).unwrap();
    let y = b.rms_norm(sum, Some(norm), 1e-6).unwrap();
    b.output("y", y).unwrap();
    let graph = b.seal().unwrap();

    let placement = Placement::on(Arc::new(Pair(null(0))));
    let members = vec![null(0).info(), null(1).info()];
    let report = reported(&graph, &placement, vec![members]);
    let names: Vec<&str> = report.devices.iter().map(|d| &*d.name).collect();
    assert_eq!(names, ["null:0+null:1", "null:0", "null:1"]);
    assert_eq!(report.devices[0].members, [1, 2]);
    assert_eq!(
        (
            report.devices[0].margin_bytes,
            report.devices[0].bytes.weights
        ),
        (None, 2 * 576)
    );
    assert_eq!(
        cell(&report, "0", "dense"),
        (Arrangement::Split, vec![(1, 512), (2, 512)])
    );
    assert_eq!(
        cell(&report, "output", "norm"),
        (Arrangement::Replicated, vec![(1, 64), (2, 64)])
    );
    let w = report
        .weights
        .iter()
        .find(|w| w.name == "blk.0.down.weight")
        .unwrap();
    assert_eq!(
        (w.device, w.bytes, &*w.split),
        (0, 1024, "split along axis 1 as 0..8 | 8..16")
    );

    let step = &report.steps[0];
    let [Exchange::Collective(sum)] = step.exchanges.as_slice() else {
        panic!("{:?}", step.exchanges);
    };
    assert_eq!(
        (&*sum.layer, &*sum.kind, &*sum.members),
        ("0", "all_reduce", &[1, 2][..])
    );
    // 16 floats, twice round a ring of two.
    assert_eq!(
        (sum.bytes, sum.wire_bytes, &*sum.wire_dtype),
        (64, 128, "F32")
    );
    // The kernel and reason of its route.
    assert_eq!((&*sum.transport, &*sum.why), ("all_reduce", "runs nothing"));
    let products = step.ops.iter().filter(|o| o.op == "matmul");
    let products: Vec<_> = products.map(|o| (o.device, o.flops, &*o.layer)).collect();
    assert_eq!(products, [(1, 256.0, "0"), (2, 256.0, "0")]);
    assert!(
        step.ops.iter().all(|o| o.op != "all_reduce"),
        "exchanges are no ops"
    );
}
