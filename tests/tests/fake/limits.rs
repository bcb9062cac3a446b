//! Memory: accounted to the byte, refused beyond a limit.

use ggrs_core::device::{Bindings, BufferUse, Runner};
use ggrs_core::plan::plan;
use ggrs_core::{BindError, DType, DeviceError, Graph, GraphBuilder, PlanError};
use ggrs_tests::fake::{FakeSpec, FakeWorld};

use crate::scene::{BYTES, WIDTH, bindings, chain, failure, options, planned, session, source};

#[test]
fn memory_is_limited_and_accounted() {
    let weight_bytes = (WIDTH * WIDTH * 4) as u64;
    let roomy = FakeWorld::uniform(1).unwrap();
    let device = roomy.open(0).unwrap();
    let plan = planned(&chain(), &*device);
    let bound = bindings(&*device, &plan).unwrap();
    let runner = Runner::new(&*device, &plan, &bound).unwrap();
    let constants = (WIDTH * 4) as u64;
    let need = weight_bytes + BYTES + plan.arenas[0] + constants;
    assert_eq!(roomy.held_bytes(0), need);
    assert_eq!(device.memory().held, need);
    drop((runner, bound));
    roomy.assert_no_leaks();

    // One byte less than each stage needs: the weight, the state, the arena, the constants.
    let before = [0, weight_bytes, weight_bytes + BYTES, need - constants];
    let needs = [weight_bytes, BYTES, plan.arenas[0], constants];
    let names = ["weight \"w\"", "state \"s\"", "arena", "constants"];
    for ((before, needs), name) in before.into_iter().zip(needs).zip(names) {
        let spec = FakeSpec::default().memory(before + needs - 1);
        let world = FakeWorld::new([spec]).unwrap();
        let device = world.open(0).unwrap();
        let error = session(&*device).expect_err("too little memory");
        let expected = DeviceError::OutOfMemory {
            device: "fake:0".to_owned(),
            what: name.to_owned(),
            requested: needs,
            free: needs - 1,
        };
        assert_eq!(failure(&*error), expected);
        drop(error);
        world.assert_no_leaks();
        world.audit().unwrap();
    }
    let world = FakeWorld::new([FakeSpec::default().memory(need)]).unwrap();
    let device = world.open(0).unwrap();
    let bound = bindings(&*device, &plan).unwrap();
    Runner::new(&*device, &plan, &bound).expect("exactly enough");
}

/// A graph that only passes a weight on.
fn unread_weight(n_elems: usize) -> Graph {
    let mut b = GraphBuilder::new();
    let large = b.weight("large", DType::F32, [n_elems]).unwrap();
    b.output("large", large).unwrap();
    b.seal().unwrap()
}

#[test]
fn single_buffers_are_limited() {
    let arena = planned(&chain(), &*FakeWorld::uniform(1).unwrap().open(0).unwrap()).arenas[0];
    let max = arena - 1;
    let world = FakeWorld::new([FakeSpec::default().max_buffer(max), FakeSpec::default()]).unwrap();
    let devices = world.open_all().unwrap();
    let error = plan(&chain(), &*devices[0], &options()).unwrap_err();
    assert!(
        matches!(&error, PlanError::Arena { device, need, have, .. } if device == "fake:0" && (*need, *have) == (arena, max)),
        "{error}"
    );
    let too_big = |what: &str, requested| DeviceError::BufferTooBig {
        device: "fake:0".to_owned(),
        what: what.to_owned(),
        requested,
        max,
    };
    let error = devices[0].alloc(arena, BufferUse::State).err().unwrap();
    assert_eq!(error, too_big("state", arena));
    assert!(devices[0].alloc(max, BufferUse::State).is_ok());
    // Plans made for another device do not slip through.
    let large = planned(&unread_weight(arena as usize / 4), &*devices[1]).weights[0].clone();
    let zeros = vec![0; arena as usize];
    let error = devices[0].load_weight(&large, source(&zeros)).err();
    assert_eq!(error, Some(too_big("weight \"large\"", arena)));
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [arena as usize / 4]).unwrap();
    b.output("x", x).unwrap();
    let foreign = planned(&b.seal().unwrap(), &*devices[1]);
    let error = devices[0].compile(&foreign, &Bindings::new()).err();
    let needs = foreign.arenas[0];
    assert_eq!(error, Some(BindError::Device(too_big("arena", needs))));
    world.assert_no_leaks();
}
