//! Failures on demand: typed, without leftovers, and over when the device is revived.

use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, BufferUse, Device, Runner};
use ggrs_core::plan::plan;
use ggrs_core::{Cut, DType, DeviceError, ExecError, Graph, GraphBuilder, Link, Role, RoleKind};
use ggrs_meta::{HostTransport, MetaDevice, MetaOptions, PATIENCE};
use ggrs_tests::fake::{FakeWorld, Fault, FaultKind, FaultyTransport, Point};

use crate::scene::{
    BYTES, ROWS, WIDTH, bindings, bytes, chain, expected, failure, floats, options, planned,
    session, source, weight, x,
};

#[test]
fn a_fault_at_any_event_is_a_typed_error_and_leaves_nothing_behind() {
    let world = FakeWorld::uniform(2).unwrap();
    let device = world.open(1).unwrap();
    assert_eq!(session(&*device).unwrap(), expected());
    let counts = Point::ALL.map(|point| world.count(point));
    // State, copy of it, arena, constants; weight; input; output, state, weight; copy; run; wait.
    assert_eq!(counts, [4, 1, 1, 3, 1, 1, 1, 0]);
    assert_eq!(world.tally(1, Point::Upload).bytes, BYTES);
    assert_eq!(world.tally(0, Point::Upload).events, 0);

    let events = world.sweep(100);
    assert_eq!(events.len(), 12);
    for ((point, nth), kind) in events
        .into_iter()
        .flat_map(|event| FaultKind::ALL.map(|kind| (event, kind)))
    {
        world.restart_counts();
        world.fail_at(point, nth, kind);
        let error = session(&*device).expect_err("a fault");
        let found = match failure(&*error) {
            DeviceError::OutOfMemory { device, .. } => (device, FaultKind::OutOfMemory),
            DeviceError::Lost { device, .. } => (device, FaultKind::Lost),
            DeviceError::Timeout { device, .. } => (device, FaultKind::Timeout),
            other => panic!("{point} {nth}: {other}"),
        };
        assert_eq!(found, ("fake:1".to_owned(), kind), "{point} {nth}");
        assert_eq!(
            world.fired(),
            [Fault {
                device: None,
                point,
                nth,
                kind
            }]
        );
        drop(error);
        world.assert_no_leaks();
        assert_eq!(world.is_lost(1), kind == FaultKind::Lost);
        world.revive(1);
        assert_eq!(session(&*device).unwrap(), expected());
    }
    world.audit().unwrap();
    world.assert_no_leaks();
}

#[test]
fn a_lost_device_stays_lost_until_it_is_revived() {
    let world = FakeWorld::uniform(2).unwrap();
    let devices = world.open_all().unwrap();
    let device = &*devices[0];
    let plan = planned(&chain(), device);
    let bound = bindings(device, &plan).unwrap();
    let mut runner = Runner::new(device, &plan, &bound).unwrap();
    world.fail_next(Point::Launch, FaultKind::Lost);
    runner.set("x", &bytes(x())).unwrap();
    let is_lost = |error: DeviceError| matches!(&error, DeviceError::Lost { device, .. } if device == "fake:0");
    let lost = |error: ExecError| is_lost(failure(&error));
    assert!(lost(runner.run().unwrap_err()));
    assert!(world.is_lost(0));
    for _ in 0..2 {
        assert!(lost(runner.set("x", &bytes(x())).unwrap_err()));
        assert!(lost(runner.get("y").unwrap_err()));
        assert!(is_lost(device.alloc(64, BufferUse::State).err().unwrap()));
        assert!(is_lost(device.queue().err().unwrap()));
        assert!(is_lost(world.open(0).err().unwrap()));
        let slot = &plan.weights[0];
        let loaded = device.load_weight(slot, source(&weight()));
        assert!(is_lost(loaded.err().unwrap()));
    }
    assert_eq!(session(&*devices[1]).unwrap(), expected());

    world.revive(0);
    // What was made before stays lost, what is made now works.
    assert!(lost(runner.run().unwrap_err()));
    let mut queue = device.queue().unwrap();
    let state = BufferSlice::whole(Arc::clone(bound.get("s").unwrap()));
    assert!(is_lost(queue.upload(&state, &[0; 4]).unwrap_err()));
    let again = Runner::new(device, &plan, &bound).err().unwrap();
    assert!(is_lost(failure(&again)));
    assert_eq!(session(device).unwrap(), expected());
    drop((runner, bound, state));
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// `y = down (up x)` with a hidden axis of 8 units that members share: one collective.
fn shared_width() -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [ROWS, WIDTH]).unwrap();
    let up = b.weight("up", DType::F32, [8, WIDTH]).unwrap();
    let down = b.weight("down", DType::F32, [WIDTH, 8]).unwrap();
    for (leaf, axis) in [(up, 0), (down, 1)] {
        let link = Link::new("hidden", Cut::Width, 8, axis, 1);
        let role = Role::in_layer(RoleKind::Dense, 0).with(link);
        b.describe(leaf, role).unwrap();
    }
    let h = b.matmul(up, x).unwrap();
    let y = b.matmul(down, h).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}

/// With weights of ones: every element of a row of `y` is 8 times the row's sum.
fn run_shared_width(device: &dyn Device) -> Result<Vec<f32>, Box<dyn Error>> {
    let plan = Arc::new(plan(&shared_width(), device, &options())?);
    let mut bindings = Bindings::new();
    let ones = bytes([1.0; 8 * WIDTH]);
    for slot in &plan.weights {
        bindings.insert(&slot.name, device.load_weight(slot, source(&ones))?);
    }
    let mut runner = Runner::new(device, &plan, &bindings)?;
    runner.set("x", &bytes(x()))?;
    runner.run()?;
    Ok(floats(&runner.get("y")?))
}

#[test]
fn a_collective_of_fake_members_fails_as_told() {
    let sums = x()
        .chunks(WIDTH)
        .map(|row| 8.0 * row.iter().sum::<f32>())
        .collect::<Vec<_>>();
    let expected: Vec<f32> = sums.into_iter().flat_map(|sum| [sum; WIDTH]).collect();
    let world = FakeWorld::uniform(3).unwrap();
    let transport = Arc::new(FaultyTransport::new(HostTransport));
    let members = world.open_all().unwrap();
    let meta = MetaDevice::with_transport(members, MetaOptions::default(), transport, PATIENCE);
    let meta = meta.unwrap();
    assert_eq!(run_shared_width(&*meta).unwrap(), expected);
    assert_eq!(world.count(Point::Collective), 3);
    assert_eq!(world.tally(2, Point::Collective).bytes, BYTES);
    for ((member, point, nth), kind) in [0, 1, 2]
        .into_iter()
        .flat_map(|m| {
            [
                (m, Point::Collective, 0),
                (m, Point::Upload, 1),
                (m, Point::Alloc, 0),
            ]
        })
        .flat_map(|event| FaultKind::ALL.map(|kind| (event, kind)))
    {
        world.restart_counts();
        let device = Some(member);
        world.inject(Fault {
            device,
            point,
            nth,
            kind,
        });
        let error = run_shared_width(&*meta).expect_err("a fault");
        let found = match failure(&*error) {
            DeviceError::OutOfMemory { device, .. } => (device, FaultKind::OutOfMemory),
            DeviceError::Lost { device, .. } => (device, FaultKind::Lost),
            DeviceError::Timeout { device, .. } => (device, FaultKind::Timeout),
            other => panic!("{point} of {member}: {other}"),
        };
        assert_eq!(found, (format!("fake:{member}"), kind), "{point}");
        assert!(
            error.to_string().contains(&format!("fake:{member}")),
            "{error}"
        );
        assert_eq!(world.fired().len(), 1);
        drop(error);
        world.assert_no_leaks();
        world.revive(member);
        assert_eq!(run_shared_width(&*meta).unwrap(), expected);
    }
    world.audit().unwrap();
    world.assert_no_leaks();
}
