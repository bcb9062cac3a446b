//! Memory that goes away: dropped under a plan that holds it, released under one that must not use it any more.

use std::error::Error;
use std::sync::Arc;

use ggrs_core::ExecError;
use ggrs_sched::Placement;
use ggrs_tests::fake::FakeWorld;
use ggrs_tests::placed::{by_layer, cpu_members};

use crate::joined::cpu_split;
use crate::placed_graph::{distance, runner};
use crate::small_graphs::{Heads, attention_scene};

/// The peer frees memory that a launched run still uses: illegal accesses, asynchronously. In GGRS what is compiled
/// holds its buffers: everybody else may drop them.
#[test]
fn i27110_buffers_may_be_dropped_while_a_plan_holds_them() {
    let scene = attention_scene(2, 3, 32, Heads::new(4, 2, 16));
    let world = FakeWorld::uniform(2).unwrap();
    let placement = by_layer(world.open_all().unwrap());
    let plan = scene.plan(&placement).unwrap();
    let bindings = scene.bind(&placement, &plan).unwrap();
    let mut compiled = runner(&placement, &plan, &bindings).unwrap();
    drop((bindings, placement, plan));
    assert!(
        world.held_bytes(0) > 0 && world.held_bytes(1) > 0,
        "the plan holds its memory"
    );
    for _ in 0..3 {
        let answers = scene.run(&mut compiled).unwrap();
        let error = distance(&answers, &scene.expected());
        assert!(error <= 1e-10, "NMSE {error:e}");
    }
    drop(compiled);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// Reuse of a plan over a buffer that was released since it was bound: the peer reads whatever is there now. GGRS's
/// run fails before it starts and names the state.
#[test]
fn i27110_a_released_buffer_is_not_used() {
    let scene = attention_scene(2, 3, 32, Heads::new(4, 2, 16));
    for placement in [
        Placement::on(cpu_members(1).remove(0)),
        by_layer(cpu_members(2)),
        cpu_split(2, &[]),
    ] {
        let plan = scene.plan(&placement).unwrap();
        let bindings = scene.bind(&placement, &plan).unwrap();
        let mut compiled = runner(&placement, &plan, &bindings).unwrap();
        scene.run(&mut compiled).unwrap();
        let last = bindings.last().unwrap();
        last.get("kv.1.v").unwrap().generation().release();
        let error = stale(scene.run(&mut compiled).unwrap_err());
        assert!(error.to_string().contains("bind it again"), "{error}");
        // Bound again it is good.
        drop(compiled);
        let mut compiled = runner(&placement, &plan, &bindings).unwrap();
        let answers = scene.run(&mut compiled).unwrap();
        assert!(distance(&answers, &scene.expected()) <= 1e-10);
    }
}

fn stale(error: Box<dyn Error>) -> ExecError {
    let error = *error.downcast::<ExecError>().expect("an error of the run");
    let names_it = matches!(&error, ExecError::StaleBinding { name } if name == "kv.1.v");
    assert!(names_it, "{error}");
    error
}

/// A compiled plan keeps what it needs and no more: dropping it returns every byte, however often it is built.
#[test]
fn i22404_i23264_plans_return_what_they_took() {
    let scene = attention_scene(2, 3, 32, Heads::new(4, 2, 16));
    let world = FakeWorld::uniform(2).unwrap();
    let placement = by_layer(world.open_all().unwrap());
    let plan = scene.plan(&placement).unwrap();
    let bindings = scene.bind(&placement, &plan).unwrap();
    let before = [world.held_bytes(0), world.held_bytes(1)];
    let mut with_one = None;
    for _ in 0..100 {
        let mut compiled = runner(&placement, &plan, &bindings).unwrap();
        scene.run(&mut compiled).unwrap();
        let held = [world.held_bytes(0), world.held_bytes(1)];
        assert_eq!(*with_one.get_or_insert(held), held);
        drop(compiled);
        assert_eq!([world.held_bytes(0), world.held_bytes(1)], before);
    }
    assert!(with_one.unwrap()[0] > before[0]);
    drop((bindings, placement, Arc::clone(&plan)));
    world.audit().unwrap();
    world.assert_no_leaks();
}
