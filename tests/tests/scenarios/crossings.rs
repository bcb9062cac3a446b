//! Values that cross from one device to another: any number of them, with any strides.

use ggrs_core::{DType, GraphBuilder, RoleKind};
use ggrs_sched::{Leaves, Pin, Placement, Spread};
use ggrs_tests::fake::FakeWorld;
use ggrs_tests::placed::pin;

use crate::placed_graph::{Scene, same_as_one};
use crate::small_graphs::{Experts, experts_scene};

/// Everything on the first of two fakes, but for these.
fn pinned(world: &FakeWorld, pins: Vec<Pin>) -> Placement {
    Placement {
        devices: world.open_all().unwrap(),
        spread: Spread::One(0),
        pins,
        stream_experts_from: None,
    }
}

/// The peer asserts that no part of a graph takes more than a fixed number of inputs from other devices; GGRS has no
/// such number.
#[test]
fn i24132_200_values_cross_one_border() {
    const CROSSING: usize = 200;
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [3, 8]).unwrap();
    let mut sum = None;
    for i in 0..CROSSING {
        let near = b.weight(&format!("near.{i}"), DType::F32, [8]).unwrap();
        let far = b.weight(&format!("far.{i}"), DType::F32, [3, 8]).unwrap();
        let made = b.mul(x, near).unwrap();
        let taken = b.mul(far, made).unwrap();
        sum = Some(match sum {
            None => taken,
            Some(sum) => b.add(sum, taken).unwrap(),
        });
    }
    b.output("y", sum.unwrap()).unwrap();
    let scene = Scene::new(b.seal().unwrap());
    let world = FakeWorld::uniform(2).unwrap();
    let placement = pinned(&world, vec![pin("far.*", 1)]);
    let plan = scene.plan(&placement).unwrap();
    assert!(
        plan.copies.len() >= CROSSING,
        "{} copies",
        plan.copies.len()
    );
    let answers = scene.answer(&placement).unwrap();
    assert_eq!(
        answers,
        scene.expected(),
        "elementwise sums in one order are equal to the bit"
    );
    drop(placement);
    world.audit().unwrap();
    world.assert_no_leaks();
}

/// The chosen experts are a strided view of a sorting order; the peer's copy of it to the device that has the experts
/// asserts that it is contiguous. GGRS packs what is read and copies only that.
#[test]
fn i25028_seed_2_a_view_of_chosen_experts_crosses() {
    let world = FakeWorld::uniform(2).unwrap();
    for n in [4, 9, 33] {
        for n_used in [1, 3, 4] {
            for n_tokens in [1, 2, 7] {
                let sizes = Experts {
                    n,
                    n_used,
                    width: 32,
                    weights: DType::Q8_0,
                };
                let scene = experts_scene(n_tokens, 32, sizes);
                let pins = vec![Pin {
                    leaves: Leaves::Kind(RoleKind::Experts),
                    layers: Some(0..1),
                    device: 1,
                    origin: "--n-cpu-moe 1".to_owned(),
                }];
                let placement = pinned(&world, pins);
                let what = format!("{n_used} of {n} experts for {n_tokens} tokens");
                let plan = scene.plan(&placement).unwrap();
                let ids = plan.copies.iter().filter(|c| c.desc.dtype == DType::I32);
                let ids: Vec<u64> = ids.map(|c| c.bytes).collect();
                assert_eq!(
                    ids,
                    [(n_tokens * n_used * 4) as u64],
                    "{what}: only what is read"
                );
                same_as_one(&scene, &placement, &what);
            }
        }
    }
    world.audit().unwrap();
    world.assert_no_leaks();
}
