//! Two graphs over one cache, built again and used again in turns: views belong to plans, so none can go stale.

use std::sync::Arc;

use ggrs_core::BindError;
use ggrs_core::device::{Bindings, Device};
use ggrs_sched::{Placement, SchedPlan, SchedRunner};
use ggrs_tests::fake::FakeWorld;
use ggrs_tests::placed::{by_layer, cpu_members};

use crate::joined::joined;
use crate::placed_graph::{Answers, Scene, canaries_live, distance, runner, says};
use crate::small_graphs::{Heads, at_positions, attention_graph};

const TURNS: usize = 1000;
const N_EMBD: usize = 16;

/// The graphs of one and of three tokens over the same leaves.
fn graphs() -> [Scene; 2] {
    [1, 3].map(|n| Scene::new(attention_graph(2, n, N_EMBD, Heads::new(4, 2, 8))))
}

/// The graph of turn `i` and the first position that it writes.
fn turn(i: usize) -> (usize, usize) {
    // Neither the choice nor the place repeats with the rhythm of rebuilding.
    (i * i % 7 % 2, i * 5 % 60)
}

fn scene(graphs: &[Scene; 2], i: usize) -> Scene {
    let (which, first) = turn(i);
    at_positions(graphs[which].clone(), first, [1, 3][which])
}

struct Shared {
    placement: Placement,
    plans: [Arc<SchedPlan>; 2],
    bindings: Vec<Bindings>,
}

impl Shared {
    /// Plans of both graphs, weights and cache of one of them.
    fn new(graphs: &[Scene; 2], placement: Placement) -> Self {
        let plans = [0, 1].map(|i| graphs[i].plan(&placement).unwrap());
        let bindings = graphs[0].bind(&placement, &plans[0]).unwrap();
        Self {
            placement,
            plans,
            bindings,
        }
    }

    fn runner(&self, which: usize) -> SchedRunner {
        runner(&self.placement, &self.plans[which], &self.bindings).unwrap()
    }
}

/// Two graphs in turns, each compiled again now and then, against a world in which every turn compiles afresh.
fn interleaved(devices: Vec<Arc<dyn Device>>, layered: bool, turns: usize) {
    let graphs = graphs();
    let placement = if layered {
        by_layer(devices)
    } else {
        Placement::on(devices[0].clone())
    };
    let shared = Shared::new(&graphs, placement);
    let fresh = Shared::new(&graphs, Placement::on(cpu_members(1).remove(0)));
    let mut kept = [shared.runner(0), shared.runner(1)];
    let mut seen: Vec<Answers> = Vec::new();
    for i in 0..turns {
        let (which, _) = turn(i);
        let scene = scene(&graphs, i);
        // One of them is built anew, sometimes the one that runs, sometimes the other.
        if i % 3 == 0 {
            let rebuilt = i / 3 % 2;
            kept[rebuilt] = shared.runner(rebuilt);
            if i % 2 == 0 {
                kept[rebuilt].capture().unwrap();
            }
        }
        let answers = scene.run(&mut kept[which]).unwrap();
        let expected = scene.run(&mut fresh.runner(which)).unwrap();
        let error = distance(&answers, &expected);
        assert!(error <= 1e-10, "turn {i}: NMSE {error:e}");
        if i < 40 {
            seen.push(answers);
        }
    }
    canaries_live(&shared.placement, &shared.plans[0], &shared.bindings);
    // Turns with one place and graph differ where the other graph wrote in between: the cache is really shared.
    let mut alone = Shared::new(&graphs, Placement::on(cpu_members(1).remove(0)));
    let mut differs = false;
    for (i, seen) in seen.iter().enumerate() {
        if turn(i).0 == 1 {
            let answers = scene(&graphs, i).run(&mut alone.runner(1)).unwrap();
            differs |= distance(seen, &answers) > 1e-6;
        }
    }
    assert!(differs, "one graph's writes never mattered to the other");
    alone.bindings.clear();
}

/// The peer's two contexts keep views in the shared buffers: building one context's graph anew empties those that the
/// other still uses. GGRS's plans own their views; 1,000 turns of two graphs over one cache give what fresh plans give.
#[test]
fn i24566_i25522_two_graphs_in_turns_on_one_device() {
    let world = FakeWorld::uniform(1).unwrap();
    interleaved(world.open_all().unwrap(), false, TURNS);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// The same with the layers, and so the cache, on two devices.
#[test]
fn i24566_i25522_two_graphs_in_turns_over_two_devices() {
    let world = FakeWorld::uniform(2).unwrap();
    interleaved(world.open_all().unwrap(), true, TURNS);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// The same with every tensor split over three members.
#[test]
fn i24566_i25522_two_graphs_in_turns_over_three_members() {
    let world = FakeWorld::uniform(3).unwrap();
    let device = joined(world.open_all().unwrap(), &[]);
    interleaved(vec![device], false, TURNS);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// Target and draft with other shares or another number of members over one cache: the peer needs `-ts 1,1`, else
/// their slices of keys do not match. GGRS refuses to bind a cache of other devices and names both.
#[test]
fn i24566_seed_4_a_draft_that_is_split_otherwise_is_refused() {
    let world = FakeWorld::uniform(3).unwrap();
    let devices = world.open_all().unwrap();
    let [draft, target] = graphs();
    let owner = joined(devices[..2].to_vec(), &[3.0, 1.0]);
    let shared = Shared::new(&[target.clone(), draft.clone()], Placement::on(owner));
    let bound = |placement: &Placement| {
        let plan = draft.plan(placement).unwrap();
        let mut bindings = draft.bind(placement, &plan).unwrap();
        for state in ["kv.0.k", "kv.0.v", "kv.1.k", "kv.1.v"] {
            bindings[0].insert(state, Arc::clone(shared.bindings[0].get(state).unwrap()));
        }
        runner(placement, &plan, &bindings).map(|_| ())
    };
    let same = Arc::clone(&shared.placement.devices[0]);
    bound(&Placement::on(same)).expect("the target's own device");
    let others: [(Arc<dyn Device>, &[&str]); 3] = [
        (
            joined(devices[..2].to_vec(), &[1.0, 1.0]),
            &["fake:0+fake:1"],
        ),
        (
            joined(devices.clone(), &[]),
            &["fake:0+fake:1+fake:2: ", "fake:0+fake:1;"],
        ),
        (Arc::clone(&devices[0]), &["fake:0: the buffer belongs to"]),
    ];
    for (device, parts) in others {
        let name = device.info().name.to_string();
        let error = bound(&Placement::on(device)).expect_err(&name);
        assert!(
            matches!(error, BindError::Sharding { .. } | BindError::Device(_)),
            "{error}"
        );
        says(&error, parts);
    }
}
