//! Kernels that a fake device refuses or prefers.

use ggrs_core::device::{Bindings, Device, Runner};
use ggrs_core::error::{Refusal, RefusalReason};
use ggrs_core::ops::{Attention, Visibility};
use ggrs_core::plan::plan;
use ggrs_core::{DType, Graph, GraphBuilder, PlanError, Real};
use ggrs_tests::fake::{FakeSpec, FakeWorld, Mask, Refuse};
use ggrs_tests::placed::cpu_members;

use crate::scene::{bytes, chain, options, planned};

/// Dense attention of one sequence; `strided` queries are a permuted view.
fn attention(heads: (usize, usize), width: usize, n_cells: usize, kv: DType) -> Graph {
    let (h, hk) = heads;
    let mut b = GraphBuilder::new();
    let q = b.input("q", DType::F32, [1, h, 3, width]).unwrap();
    let q = b.permute(q, &[0, 2, 1, 3]).unwrap();
    let k = b.input("k", kv, [1, n_cells, hk, width]).unwrap();
    let v = b.input("v", kv, [1, n_cells, hk, width]).unwrap();
    let op = Attention {
        scale: Real(0.125),
        softcap: None,
        visibility: Visibility::Full,
        sinks: false,
    };
    let y = b.attention(op, q, k, v, &[]).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}

/// For each predicate a graph that it refuses, one that it does not, and the reason.
fn refusals() -> Vec<(Refuse, Graph, Graph, RefusalReason)> {
    let plain = || attention((8, 4), 64, 256, DType::F16);
    let of: &[usize] = &[1, 2, 4];
    let widths: &[usize] = &[64, 128];
    let narrow = |got| RefusalReason::OneOf {
        what: "head width",
        got,
        of: widths,
    };
    let masked = RefusalReason::Feature {
        needs: "hardware that the fake device lacks",
    };
    let strided = RefusalReason::Strided { role: "queries" };
    let keys = |dtype| RefusalReason::DType {
        role: "keys",
        dtype,
    };
    let unpadded = RefusalReason::Multiple {
        what: "number of keys",
        got: 255,
        of: 256,
    };
    let ratio = RefusalReason::OneOf {
        what: "query heads per key head",
        got: 3,
        of,
    };
    let no_heads = RefusalReason::Empty {
        what: "query heads",
    };
    let wide = || attention((8, 4), 96, 256, DType::F16);
    let both = vec![Refuse::Strided, Refuse::HeadWidthNotIn(widths)];
    vec![
        (Refuse::Op("attention"), plain(), chain(), masked.clone()),
        (Refuse::Always, plain(), chain(), masked),
        (
            Refuse::DType(DType::F16),
            plain(),
            chain(),
            keys(DType::F16),
        ),
        (
            Refuse::KvDTypeNotIn(&[DType::F16, DType::F32]),
            attention((8, 4), 64, 256, DType::Q8_0),
            plain(),
            keys(DType::Q8_0),
        ),
        (Refuse::HeadWidthNotIn(widths), wide(), plain(), narrow(96)),
        (
            Refuse::GqaRatioNotIn(of),
            attention((6, 2), 64, 256, DType::F16),
            plain(),
            ratio.clone(),
        ),
        (
            Refuse::KvCellsNotMultipleOf(256),
            attention((8, 4), 64, 255, DType::F16),
            plain(),
            unpadded,
        ),
        (Refuse::Strided, plain(), chain(), strided),
        (
            Refuse::NoHeads,
            attention((0, 4), 64, 256, DType::F16),
            plain(),
            no_heads,
        ),
        (Refuse::All(both.clone()), wide(), plain(), narrow(96)),
        (
            Refuse::Any(vec![Refuse::NoHeads, Refuse::GqaRatioNotIn(of)]),
            attention((6, 2), 64, 256, DType::F16),
            plain(),
            ratio,
        ),
    ]
}

#[test]
fn a_mask_refuses_with_every_candidate() {
    for (refuse, refused, taken, reason) in refusals() {
        let mask = Mask::refusing([refuse.clone()])
            .with_fast("fast_attention", "attention", Refuse::Always)
            .with_fast("other_attention", "attention", refuse.clone());
        let world = FakeWorld::new([FakeSpec::default().mask(mask)]).unwrap();
        let device = world.open(0).unwrap();
        let error = plan(&refused, &*device, &options()).expect_err("a refusal");
        let PlanError::Unsupported {
            op, device, source, ..
        } = error
        else {
            panic!("{refuse:?}: {error}");
        };
        assert_eq!((op, &*device), ("attention", "fake:0"), "{refuse:?}");
        let lacks = RefusalReason::Feature {
            needs: "hardware that the fake device lacks",
        };
        let candidates = [
            ("fast_attention", lacks),
            ("other_attention", reason.clone()),
            ("attention/blocks", reason),
        ];
        let candidates = candidates.map(|(kernel, reason)| Refusal { kernel, reason });
        assert_eq!(source.candidates, candidates, "{refuse:?}");
        // Always refuses this graph too.
        if !matches!(refuse, Refuse::Always) {
            let device = world.open(0).unwrap();
            plan(&taken, &*device, &options()).unwrap_or_else(|e| panic!("{refuse:?}: {e}"));
        }
    }
}

#[test]
fn a_fast_kernel_shows_in_the_plan_and_gives_way_to_the_generic_one() {
    let widths: &[usize] = &[64];
    let mask = Mask::default().with_fast("fast", "attention", Refuse::HeadWidthNotIn(widths));
    let world = FakeWorld::new([FakeSpec::default().alignment(1024).mask(mask)]).unwrap();
    let (fake, cpu) = (world.open(0).unwrap(), cpu_members(1).remove(0));
    for (width, kernel) in [(64, "fast"), (96, "attention/blocks")] {
        let graph = attention((6, 2), width, 5, DType::F32);
        let run = |device: &dyn Device| {
            let plan = planned(&graph, device);
            let mut runner = Runner::new(device, &plan, &Bindings::new()).unwrap();
            for (i, name) in ["q", "k", "v"].into_iter().enumerate() {
                let slot = plan.inputs.iter().find(|slot| slot.name == name).unwrap();
                let n = slot.desc.bytes().unwrap() / 4;
                let data = bytes((0..n).map(|j| ((i + j) % 13) as f32 - 6.0));
                runner.set(name, &data).unwrap();
            }
            runner.run().unwrap();
            (plan, runner.get("y").unwrap())
        };
        let (plan, y) = run(&*fake);
        let route = &plan.steps.last().unwrap().route;
        assert_eq!(route.kernel, kernel);
        let gives_way = "fast head width is 96, it has only [64]";
        assert_eq!(route.reason.contains(gives_way), width == 96, "{route:?}");
        assert_eq!(y, run(&*cpu).1);
    }
    world.audit().unwrap();
    world.assert_no_leaks();
}
