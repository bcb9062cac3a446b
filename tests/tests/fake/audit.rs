//! Wrong uses of devices: each is found, and right ones are not.

use std::sync::Arc;

use ggrs_core::device::{Bindings, Buffer, BufferSlice, BufferUse, Runner};
use ggrs_core::ops::{Receive, Send};
use ggrs_core::plan::Plan;
use ggrs_core::{BindError, DType, DeviceError, ExecError, Graph, GraphBuilder, TensorDesc};
use ggrs_tests::fake::{FakeSpec, FakeWorld, Finding, Transfer};
use ggrs_tests::placed::cpu_members;
use ggrs_tests::sentinel::poison;

use crate::scene::{
    BYTES, WIDTH, bindings, bytes, chain, expected, failure, floats, planned, session, x,
};

#[test]
fn buffers_of_one_device_are_foreign_to_another() {
    let world = FakeWorld::uniform(2).unwrap();
    let devices = world.open_all().unwrap();
    let cpu = cpu_members(1).remove(0);
    let plan = planned(&chain(), &*devices[1]);
    let theirs = bindings(&*devices[0], &plan).unwrap();
    let mut queue = devices[1].queue().unwrap();
    let own = BufferSlice::whole(devices[1].alloc(BYTES, BufferUse::State).unwrap());
    let foreign = |owner: &str| DeviceError::ForeignBuffer {
        device: "fake:1".to_owned(),
        owner: owner.to_owned(),
    };
    let on_cpu = cpu.alloc(BYTES, BufferUse::State).unwrap();
    for (owner, buffer) in [
        ("fake:0", Arc::clone(theirs.get("s").unwrap())),
        ("another device", on_cpu),
    ] {
        let slice = BufferSlice::whole(buffer);
        let mut data = [0; 64];
        let tried = [
            queue.upload(&slice, &data).unwrap_err(),
            failure(&queue.download(&slice, &mut data).unwrap_err()),
            queue.copy(&slice, &own).unwrap_err(),
            queue.copy(&own, &slice).unwrap_err(),
            queue.fill(&slice, 0).unwrap_err(),
        ];
        assert_eq!(tried, [0; 5].map(|_| foreign(owner)));
    }
    let read = devices[1].read_weight(&plan.weights[0], &**theirs.get("w").unwrap());
    assert_eq!(read.unwrap_err(), foreign("fake:0"));
    let bound = devices[1].compile(&plan, &theirs).err().unwrap();
    assert_eq!(bound, BindError::Device(foreign("fake:0")));
    world.audit().unwrap();
}

#[test]
fn memory_that_nobody_wrote_is_found_when_it_is_read() {
    let world = FakeWorld::uniform(1).unwrap();
    let device = world.open(0).unwrap();
    let mut queue = device.queue().unwrap();
    let mut download = |slice: &BufferSlice| {
        let mut data = vec![0; slice.bytes as usize];
        queue.download(slice, &mut data).unwrap();
        data
    };
    let state = BufferSlice::whole(device.alloc(256, BufferUse::State).unwrap());
    assert_eq!(download(&state), [0; 256]);
    assert_eq!(world.audit(), Ok(()));

    let arena = BufferSlice::whole(device.alloc(256, BufferUse::Arena).unwrap());
    let found = |start: u64, end: u64| Finding::PoisonDownload {
        device: "fake:0".to_owned(),
        range: start..end,
    };
    assert_eq!(download(&arena), poison(256));
    assert_eq!(world.take_findings(), [found(0, 256)]);
    let mut queue = device.queue().unwrap();
    let part = arena.range("", 0, 128).unwrap();
    queue.upload(&part, &[1; 128]).unwrap();
    let mut data = [0; 256];
    queue.download(&part, &mut data[..128]).unwrap();
    // A gap between values is no finding, a value that nobody wrote is one.
    queue.download(&arena, &mut data[..160]).unwrap();
    assert_eq!(world.audit(), Ok(()));
    queue
        .download(&arena.range("", 128, 32).unwrap(), &mut data[..32])
        .unwrap();
    assert_eq!(world.take_findings(), [found(128, 160)]);
    // A copy takes poison along.
    queue.copy(&arena, &state).unwrap();
    queue.download(&state, &mut data).unwrap();
    assert_eq!(world.take_findings(), [found(128, 256)]);
    queue.fill(&state, 7).unwrap();
    queue.download(&state, &mut data).unwrap();
    assert_eq!((data, world.audit()), ([7; 256], Ok(())));
}

#[test]
fn a_step_that_reads_what_nobody_wrote_for_it_is_found() {
    let world = FakeWorld::uniform(1).unwrap();
    let device = world.open(0).unwrap();
    let plan = planned(&chain(), &*device);
    let bound = bindings(&*device, &plan).unwrap();
    let fresh = || Runner::new(&*device, &plan, &bound).unwrap();
    let found = || match world.take_findings().as_slice() {
        [
            Finding::PoisonRead {
                step,
                node,
                operand,
                overwritten_by,
                ..
            },
            rest @ ..,
        ] => {
            let rest = rest
                .iter()
                .filter(|f| matches!(f, Finding::PoisonOutput { .. }));
            (
                *step,
                node.clone(),
                *operand,
                overwritten_by.clone(),
                rest.count(),
            )
        }
        other => panic!("{other:?}"),
    };
    let matmul = || "matmul".to_owned();

    // The input was never set: the step reads poison, and the output shows it.
    fresh().run().unwrap();
    assert_eq!(found(), (0, matmul(), "x", None, 1));

    // A step without the one before it.
    let mut runner = fresh();
    runner.set("x", &bytes(x())).unwrap();
    runner.executable().run(1..2).unwrap();
    assert_eq!(found(), (1, "scale".to_owned(), "x", None, 0));
    runner.executable().run(0..2).unwrap();
    runner.executable().run(2..6).unwrap();
    assert_eq!(floats(&runner.get("y").unwrap()), expected());
    assert_eq!(world.audit(), Ok(()));

    // Steps whose operand has made room for a later value.
    runner.executable().run(2..6).unwrap();
    let (step, _, _, by, _) = found();
    assert_eq!((step, by.is_some()), (2, true));
    // Inputs stay.
    runner.run().unwrap();
    assert_eq!(world.audit(), Ok(()));

    // A poisoned input gives a poisoned output.
    runner.set("x", &poison(BYTES as usize)).unwrap();
    runner.run().unwrap();
    let outputs = [Finding::PoisonOutput {
        device: "fake:0".to_owned(),
        output: "y".to_owned(),
        offset: 0,
    }];
    assert_eq!(world.take_findings(), outputs);
}

#[test]
fn released_buffers_are_not_used() {
    let world = FakeWorld::uniform(1).unwrap();
    let device = world.open(0).unwrap();
    let plan = planned(&chain(), &*device);
    for name in ["w", "s"] {
        let bound = bindings(&*device, &plan).unwrap();
        let mut runner = Runner::new(&*device, &plan, &bound).unwrap();
        runner.set("x", &bytes(x())).unwrap();
        let buffer: &Arc<dyn Buffer> = bound.get(name).unwrap();
        buffer.generation().release();
        let error = runner.run().unwrap_err();
        let name = name.to_owned();
        assert_eq!(error, ExecError::StaleBinding { name: name.clone() });
        let device_name = "fake:0".to_owned();
        let finding = Finding::StaleRun {
            device: device_name.clone(),
            name,
        };
        assert_eq!(world.take_findings().first(), Some(&finding));

        let slice = BufferSlice::whole(Arc::clone(buffer));
        let other = BufferSlice::whole(device.alloc(4096, BufferUse::State).unwrap());
        let mut queue = device.queue().unwrap();
        let stale = DeviceError::StaleBuffer {
            device: device_name.clone(),
            expected: 0,
            found: 1,
        };
        let mut data = [0; 64];
        let tried = [
            queue.upload(&slice, &data).unwrap_err(),
            failure(&queue.download(&slice, &mut data).unwrap_err()),
            queue.copy(&slice, &other).unwrap_err(),
            queue.fill(&slice, 0).unwrap_err(),
        ];
        assert_eq!(tried, [0; 4].map(|_| stale.clone()));
        let transfers = [
            Transfer::Upload,
            Transfer::Download,
            Transfer::CopyFrom,
            Transfer::Fill,
        ];
        let findings = transfers.map(|transfer| Finding::StaleTransfer {
            device: device_name.clone(),
            transfer,
            releases: 1,
        });
        assert_eq!(world.take_findings(), findings);
    }
    world.assert_no_leaks();
}

#[test]
fn a_plan_that_breaks_the_alignment_is_found() {
    let specs = [FakeSpec::default(), FakeSpec::default().alignment(4096)];
    let world = FakeWorld::new(specs).unwrap();
    let devices = world.open_all().unwrap();
    assert_eq!(devices[1].limits().alignment_bytes, 4096);
    assert_eq!(session(&*devices[1]).unwrap(), expected());
    world.audit().unwrap();

    let loose = planned(&chain(), &*devices[0]);
    let bound = bindings(&*devices[1], &loose).unwrap();
    devices[1].compile(&loose, &bound).expect("it still runs");
    let findings = world.take_findings();
    assert!(!findings.is_empty());
    for finding in findings {
        let Finding::Misaligned {
            device,
            offset,
            alignment,
            ..
        } = finding
        else {
            panic!("{finding}");
        };
        assert_eq!((&*device, alignment), ("fake:1", 4096));
        assert_ne!(offset % 4096, 0);
    }
    let bad = FakeWorld::new([FakeSpec::default().alignment(96)]);
    assert!(matches!(bad.err().unwrap(), DeviceError::Setting { .. }));
}

/// `double` on one device, sent to another, which adds one.
fn handed_over() -> [Graph; 2] {
    let desc = TensorDesc::new(DType::F32, [WIDTH]);
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [WIDTH]).unwrap();
    let y = b.scale(x, 2.0, 0.0).unwrap();
    b.push(Send { tag: 7 }, &[y]).unwrap();
    let kept = b.scale(y, 0.5, 0.0).unwrap();
    b.output("kept", kept).unwrap();
    let first = b.seal().unwrap();
    let mut b = GraphBuilder::new();
    let y = b.push(Receive { tag: 7, desc }, &[]).unwrap()[0];
    let z = b.scale(y, 1.0, 1.0).unwrap();
    b.output("z", z).unwrap();
    [first, b.seal().unwrap()]
}

#[test]
fn exchanges_are_not_run_by_devices() {
    let world = FakeWorld::uniform(2).unwrap();
    let devices = world.open_all().unwrap();
    let [first, second] = handed_over();
    let plans = [
        planned(&first, &*devices[0]),
        planned(&second, &*devices[1]),
    ];
    let compile = |i: usize| devices[i].compile(&plans[i], &Bindings::new()).unwrap();
    let (mut a, mut b) = (compile(0), compile(1));
    let mut queues = [devices[0].queue().unwrap(), devices[1].queue().unwrap()];
    let at = |plan: &Plan| plan.steps.iter().position(|s| s.is_exchange).unwrap();
    let (send, receive) = (at(&plans[0]), at(&plans[1]));
    let ones = bytes([1.0; WIDTH]);
    let x = a.value(plans[0].inputs[0].value).unwrap();
    queues[0].upload(&x, &ones).unwrap();

    let over = |n| 0..n;
    let n = plans[0].steps.len();
    let error = queues[0].submit(&mut *a, over(n)).unwrap_err();
    let (device, steps) = ("fake:0".to_owned(), over(n));
    assert_eq!(
        error,
        ExecError::Steps {
            device: device.clone(),
            steps: steps.clone(),
            n_steps: n
        }
    );
    let findings = world.take_findings();
    let node = "send".to_owned();
    let expected = Finding::ExchangeRun {
        device,
        steps,
        node,
    };
    assert_eq!(findings.first(), Some(&expected));

    // In pieces, with the bytes moved in between.
    queues[0].submit(&mut *a, 0..send).unwrap();
    let node = plans[0].graph.node(plans[0].steps[send].node);
    let from = a.value(node.inputs[0]).unwrap();
    let mut moved = vec![0; from.bytes as usize];
    queues[0].download(&from, &mut moved).unwrap();
    let node = plans[1].graph.node(plans[1].steps[receive].node);
    let to = b.value(node.outputs[0]).unwrap();
    let rest = receive + 1..plans[1].steps.len();
    queues[1].submit(&mut *b, rest.clone()).unwrap();
    assert!(
        matches!(world.take_findings()[0], Finding::PoisonRead { .. }),
        "nothing has arrived yet"
    );
    queues[1].upload(&to, &moved).unwrap();
    queues[1].submit(&mut *b, rest).unwrap();
    queues[0].submit(&mut *a, send + 1..n).unwrap();
    let mut z = vec![0; moved.len()];
    let out = b.value(plans[1].outputs[0].value).unwrap();
    queues[1].download(&out, &mut z).unwrap();
    assert_eq!(floats(&z), [3.0; WIDTH]);
    world.audit().unwrap();
}

#[test]
fn memory_that_is_kept_is_a_leak() {
    let world = FakeWorld::uniform(2).unwrap();
    let device = world.open(1).unwrap();
    let plan = planned(&chain(), &*device);
    let bound = bindings(&*device, &plan).unwrap();
    let executable = device.compile(&plan, &bound).unwrap();
    let slice = executable.value(plan.outputs[0].value).unwrap();
    drop((executable, bound));
    // A slice keeps its arena.
    let leaks = world.check_no_leaks().unwrap_err();
    let [Finding::Leak { device, held }] = leaks.findings.as_slice() else {
        panic!("{leaks}");
    };
    let held: Vec<_> = held.iter().map(|h| (&*h.what, h.bytes)).collect();
    assert_eq!(
        (&**device, held),
        ("fake:1", vec![("arena", plan.arenas[0])])
    );
    drop(slice);
    world.assert_no_leaks();
}
