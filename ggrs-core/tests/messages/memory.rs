//! What sealing, binding, planning, memory and device names refuse.

use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferUse, Device, Registry, Runner};
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DeviceError, GraphBuilder};

use crate::{F, input, null, shown};

#[test]
fn sealing_nothing() {
    let mut b = GraphBuilder::new();
    input(&mut b, "h", &[3]);
    assert_eq!(
        shown(&b.seal().unwrap_err()),
        "the graph has neither an output nor a write to a state: mark at least one output"
    );
}

#[test]
fn binding() {
    let mut b = GraphBuilder::new();
    let t = b.symbol("tokens", 512).unwrap();
    let h = b.input("h", F, [t]).unwrap();
    b.output("h", h).unwrap();
    let graph = b.seal().unwrap();
    assert_eq!(
        shown(&graph.bind(&[]).unwrap_err()),
        "symbol \"tokens\" has no size: bind it to 1..=512"
    );
    assert_eq!(
        shown(&graph.bind(&[("tokens", 513)]).unwrap_err()),
        "symbol \"tokens\" cannot be 513: its range is 1..=512"
    );
    let symbolic = plan(&graph, &null(), &PlanOptions::default()).unwrap_err();
    assert_eq!(
        shown(&symbolic),
        "the graph still has symbols (tokens): bind it first"
    );
}

#[test]
fn memory() {
    let mut b = GraphBuilder::new();
    let w = b.weight("output.weight", F, [64, 32]).unwrap();
    let h = input(&mut b, "h", &[2, 32]);
    let y = b.matmul(w, h).unwrap();
    b.output("y", y).unwrap();
    let device = null();
    let planned = Arc::new(plan(&b.seal().unwrap(), &device, &PlanOptions::default()).unwrap());
    let unbound = Runner::new(&device, &planned, &Bindings::new())
        .err()
        .unwrap();
    assert_eq!(
        shown(&unbound),
        "weight \"output.weight\" (F32 [64, 32]) has no buffer"
    );
    let mut bindings = Bindings::new();
    bindings.insert(
        "output.weight",
        device.alloc(64, BufferUse::Weights).unwrap(),
    );
    let small = Runner::new(&device, &planned, &bindings).err().unwrap();
    assert_eq!(
        shown(&small),
        "weight \"output.weight\" (F32 [64, 32]) needs 8192 bytes, its buffer has 64"
    );
    let out_of_memory = device.alloc(1 << 21, BufferUse::State).err().unwrap();
    assert_eq!(
        shown(&out_of_memory),
        "null:0: out of memory: state needs 2097152 bytes, 1048512 are free; use a smaller context, a smaller model or another device"
    );

    let weight = device.alloc(64 * 32 * 4, BufferUse::Weights).unwrap();
    bindings.insert("output.weight", Arc::clone(&weight));
    let mut runner = Runner::new(&device, &planned, &bindings).unwrap();
    assert_eq!(
        shown(&runner.set("H", &[]).unwrap_err()),
        "the graph has no input \"H\"; it has: h"
    );
    assert_eq!(
        shown(&runner.set("h", &[0; 3]).unwrap_err()),
        "\"h\" takes 256 bytes, got 3"
    );
    assert_eq!(
        shown(&runner.get("z").unwrap_err()),
        "the graph has no output \"z\"; it has: y"
    );
    runner.run().unwrap();
    weight.generation().release();
    assert_eq!(
        shown(&runner.run().unwrap_err()),
        "\"output.weight\" was bound to a buffer that has been released since; bind it again"
    );
}

#[test]
fn a_step_larger_than_the_device() {
    let mut b = GraphBuilder::new();
    let h = input(&mut b, "h", &[1 << 18]);
    let y = b.scale(h, 2.0, 0.0).unwrap();
    b.output("y", y).unwrap();
    let error = plan(&b.seal().unwrap(), &null(), &PlanOptions::default()).unwrap_err();
    assert_eq!(
        shown(&error),
        "the plan needs 2097152 bytes of working memory on null:0, it has 1048576; largest: h 1048576, scale 1048576; use fewer tokens per step"
    );
}

#[test]
fn device_names() {
    let registry = Registry::with([]);
    assert_eq!(
        shown(&registry.open("cpu:x").err().unwrap()),
        "\"cpu:x\" is not a device name: write backend, backend:index or backend:index/members (cpu, cuda:0, cpu:0/2)"
    );
    assert_eq!(
        shown(&registry.open("cuda:0").err().unwrap()),
        "no device \"cuda:0\"; available: "
    );
    let missing = DeviceError::Unavailable {
        device: "cuda:0".to_owned(),
        reason: "the driver sees no device".to_owned(),
    };
    assert_eq!(
        shown(&missing),
        "cuda:0 is not available: the driver sees no device"
    );
}
