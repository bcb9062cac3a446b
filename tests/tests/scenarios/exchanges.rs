//! Exchanges between members that fail: an error with their names, at once, and members that can go on.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ggrs_core::device::{Queue, Route};
use ggrs_core::{DType, DeviceError, ExecError, GraphBuilder};
use ggrs_meta::{Exchange, HostTransport, MetaDevice, MetaOptions, Transport};
use ggrs_sched::Placement;
use ggrs_tests::fake::{FakeWorld, Fault, FaultKind, Point};

use crate::placed_graph::{Scene, distance, runner, same_as_one_when_split, says};
use crate::small_graphs::{Experts, Heads, at_positions, attention, experts, step_inputs};

/// The host's transport behind a link that breaks when the world says so.
struct Breaking {
    world: FakeWorld,
    n: AtomicUsize,
}

impl Transport for Breaking {
    fn name(&self) -> &'static str {
        "breaking"
    }

    fn route(&self) -> Route {
        HostTransport.route()
    }

    fn staging_bytes(&self, exchange: &Exchange) -> usize {
        HostTransport.staging_bytes(exchange)
    }

    fn exchange(
        &self,
        exchange: &Exchange,
        queues: &mut [Box<dyn Queue>],
        staging: &mut [u8],
    ) -> Result<(), ExecError> {
        self.n.fetch_add(1, Ordering::Relaxed);
        self.world
            .happen(1, Point::Collective, exchange.bytes() as u64, "all_reduce")?;
        HostTransport.exchange(exchange, queues, staging)
    }
}

/// Attention and experts.
fn scene() -> Scene {
    let mut b = GraphBuilder::new();
    let (x, pages) = step_inputs(&mut b, 3, 32);
    let y = attention(&mut b, 0, x, pages, Heads::new(4, 2, 16));
    let x = b.add(x, y).unwrap();
    let sizes = Experts {
        n: 4,
        n_used: 2,
        width: 32,
        weights: DType::F32,
    };
    let y = experts(&mut b, 0, x, sizes);
    let y = b.add(x, y).unwrap();
    b.output("y", y).unwrap();
    at_positions(Scene::new(b.seal().unwrap()), 0, 3)
}

fn world_split(world: &FakeWorld) -> (Placement, Arc<Breaking>) {
    let transport = Arc::new(Breaking {
        world: world.clone(),
        n: AtomicUsize::new(0),
    });
    let device = MetaDevice::with_transport(
        world.open_all().unwrap(),
        MetaOptions::default(),
        Arc::clone(&transport) as Arc<dyn Transport>,
        Duration::from_secs(120),
    );
    (Placement::on(device.unwrap()), transport)
}

/// Members without a transport of their own kind: the peer asserts, or falls back to one that crashes. GGRS's host
/// transport works between any members.
#[test]
fn i22648_i25051_members_exchange_through_the_host() {
    let world = FakeWorld::uniform(3).unwrap();
    let (placement, transport) = world_split(&world);
    same_as_one_when_split(&scene(), &placement, "through the host");
    assert!(
        transport.n.load(Ordering::Relaxed) >= 2,
        "nothing was exchanged"
    );
    drop((placement, transport));
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// A failed exchange ends the peer's process, or hangs it. In GGRS it is an error that names the op, the transport and
/// the members, and the same members work again.
#[test]
fn i24489_i27110_i27750_an_exchange_that_fails_is_an_error_with_names() {
    let scene = scene();
    let expected = scene.expected();
    let world = FakeWorld::uniform(2).unwrap();
    let (placement, _) = world_split(&world);
    let plan = scene.plan(&placement).unwrap();
    let bindings = scene.bind(&placement, &plan).unwrap();
    scene
        .run(&mut runner(&placement, &plan, &bindings).unwrap())
        .unwrap();
    let n = world.count(Point::Collective);
    assert!(n >= 2, "{n} exchanges");
    for nth in 0..n {
        for kind in [FaultKind::OutOfMemory, FaultKind::Timeout] {
            let mut compiled = runner(&placement, &plan, &bindings).unwrap();
            world.restart_counts();
            world.fail_at(Point::Collective, nth, kind);
            let started = Instant::now();
            let error = exec_error(scene.run(&mut compiled).unwrap_err());
            assert!(started.elapsed() < Duration::from_secs(60), "it waited");
            assert!(matches!(error, ExecError::Collective { .. }), "{error}");
            says(&error, &["fake:0", "fake:1", "breaking", "all_reduce"]);
            // The same plan, or one compiled again if the members stopped at different points.
            let mut again = runner(&placement, &plan, &bindings).unwrap();
            let answers = scene.run(&mut again).unwrap();
            assert!(
                distance(&answers, &expected) <= 1e-10,
                "after exchange {nth}"
            );
        }
    }
}

/// A member that is lost in the middle of a step: an error that names it, no hang; the others' memory is free again.
#[test]
fn i27110_i27750_a_member_that_is_lost_in_a_step() {
    let scene = scene();
    let world = FakeWorld::uniform(2).unwrap();
    let (placement, _) = world_split(&world);
    let plan = scene.plan(&placement).unwrap();
    let bindings = scene.bind(&placement, &plan).unwrap();
    scene
        .run(&mut runner(&placement, &plan, &bindings).unwrap())
        .unwrap();
    let n = world.tally(1, Point::Launch).events;
    assert!(n >= 2, "{n} launches");
    for nth in 0..n {
        let mut compiled = runner(&placement, &plan, &bindings).unwrap();
        world.restart_counts();
        world.inject(Fault {
            device: Some(1),
            point: Point::Launch,
            nth,
            kind: FaultKind::Timeout,
        });
        let started = Instant::now();
        let error = exec_error(scene.run(&mut compiled).unwrap_err());
        assert!(started.elapsed() < Duration::from_secs(60), "it hung");
        says(&error, &["member 1 (fake:1)"]);
        assert!(
            matches!(device_error(&error), Some(DeviceError::Timeout { .. })),
            "{error}"
        );
    }
    let answers = scene
        .run(&mut runner(&placement, &plan, &bindings).unwrap())
        .unwrap();
    assert!(distance(&answers, &scene.expected()) <= 1e-10);
    drop((placement, bindings, plan));
    world.assert_no_leaks();
}

fn exec_error(error: Box<dyn Error>) -> ExecError {
    *error.downcast::<ExecError>().expect("an error of the run")
}

/// The device's error at the end of the chain.
fn device_error(error: &ExecError) -> Option<&DeviceError> {
    match error {
        ExecError::Device(error) => Some(error),
        ExecError::Member { source, .. }
        | ExecError::Collective { source, .. }
        | ExecError::Broken { source, .. } => device_error(source),
        _ => None,
    }
}
