//! Passes on the CPU device: with each of them, without each of them and with none, a graph has the same answer.

#![allow(clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ggrs_core::device::{Backend, Device, Precision};
use ggrs_core::ops::{BinaryKind, UnaryKind};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DType, GraphError, Value};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_tests::conformance::{Trial, outputs, try_problem};
use ggrs_tests::problem::{Problem, Scene, operand, pose};
use ggrs_tests::problems::layers;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

fn cpu(isa: Isa) -> Arc<dyn Device> {
    let backend = CpuBackend::new(CpuOptions {
        threads: Some(2),
        isa,
    });
    backend
        .open(&"cpu".parse().expect("a device name"))
        .expect("the CPU opens")
}

/// No pass, each alone, all but each, all.
fn pass_sets() -> Vec<PassSet> {
    let names: Vec<&str> = PassSet::default().names().collect();
    let alone = names.iter().map(|name| PassSet::default().only(name));
    let without = names.iter().map(|name| PassSet::default().without(name));
    [PassSet::none(), PassSet::default()]
        .into_iter()
        .chain(alone)
        .chain(without)
        .collect()
}

#[test]
fn layers_have_the_same_answer_with_and_without_each_pass() {
    let mut applied: BTreeMap<&str, usize> =
        PassSet::default().names().map(|name| (name, 0)).collect();
    let mut failures = Vec::new();
    for layer in layers() {
        let posed = pose(&layer, true).expect("the layer is a graph");
        for isa in Isa::available() {
            let device = cpu(isa);
            for passes in pass_sets() {
                for precision in [Precision::Exact, Precision::Fast] {
                    let options = PlanOptions {
                        precision,
                        passes: passes.clone(),
                        collectives: None,
                    };
                    let plan =
                        plan(&posed.graph, &*device, &options).expect("the layer has a plan");
                    for report in &plan.passes {
                        *applied.entry(report.pass).or_default() += report.applied;
                    }
                    match try_problem(&posed, &*device, &options) {
                        Ok(Trial::Passed(_)) => {}
                        Ok(Trial::Refused(why)) => {
                            failures.push(format!("{layer:?} {passes:?}, {isa}: {why}"))
                        }
                        Err(why) => failures.push(format!(
                            "{layer:?} {passes:?}, {isa}, {}: {why}",
                            precision.name()
                        )),
                    }
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        applied.values().all(|n| *n > 0),
        "a pass found nothing to do: {applied:?}"
    );
}

/// A graph of elementwise ops and views. Each step picks an op, its operands among all values so far and its parameters
/// by four bytes.
#[derive(Clone, Debug)]
struct RandomGraph {
    n_inputs: usize,
    steps: Vec<[u8; 4]>,
}

impl RandomGraph {
    fn step(
        scene: &mut Scene,
        values: &[(Value, Vec<usize>)],
        [op, a, b, c]: [u8; 4],
    ) -> Result<(Value, Vec<usize>), GraphError> {
        let graph = &mut scene.graph;
        let pick = |i: u8| values[usize::from(i) % values.len()].clone();
        let ((x, shape), by) = (pick(a), usize::from(c));
        let rank = shape.len();
        let axis = by % rank;
        Ok(match op % 10 {
            0 => {
                let kinds = [
                    UnaryKind::Silu,
                    UnaryKind::Tanh,
                    UnaryKind::Neg,
                    UnaryKind::Relu,
                    UnaryKind::Sigmoid,
                ];
                (graph.unary(kinds[by % kinds.len()], x)?, shape)
            }
            1 => (graph.scale(x, f32::from(b) / 100.0 - 1.0, 0.25)?, shape),
            2 => (graph.clamp(x, -1.0, f32::from(b) / 100.0)?, shape),
            3 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                axes.rotate_left(axis);
                let turned = axes.iter().map(|&axis| shape[axis]).collect();
                (graph.permute(x, &axes)?, turned)
            }
            4 => {
                let start = usize::from(b) % shape[axis];
                let mut cut = shape;
                cut[axis] -= start;
                (graph.slice(x, axis, start, cut[axis])?, cut)
            }
            5 => {
                // Flat and back to another split, where the layout allows it.
                let n: usize = shape.iter().product();
                let divisor = [1, 2, 3, 4]
                    .into_iter()
                    .rev()
                    .find(|d| n.is_multiple_of(*d))
                    .unwrap_or(1);
                match graph.reshape(x, [n / divisor, divisor]) {
                    Ok(y) => (y, vec![n / divisor, divisor]),
                    Err(_) => (graph.contiguous(x)?, shape),
                }
            }
            6 => {
                let mut wide = shape;
                wide.insert(0, 1 + by % 2);
                if wide.len() > 4 {
                    return Ok((graph.contiguous(x)?, wide.split_off(1)));
                }
                (graph.broadcast(x, wide.as_slice())?, wide)
            }
            7 => (graph.contiguous(x)?, shape),
            _ => {
                // With itself, or with whatever broadcasts to it.
                let (y, other) = pick(b);
                let aligned = other.iter().rev().zip(shape.iter().rev());
                let fits =
                    other.len() <= rank && aligned.into_iter().all(|(o, s)| o == s || *o == 1);
                let y = if fits { y } else { x };
                let kind = [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul][by % 3];
                (
                    graph.push(ggrs_core::ops::Binary { kind }, &[x, y])?[0],
                    shape,
                )
            }
        })
    }
}

impl Problem for RandomGraph {
    fn stem(&self) -> &'static str {
        "contiguous"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let mut values: Vec<(Value, Vec<usize>)> = Vec::new();
        for shape in [vec![4, 6], vec![2, 3, 5], vec![6]]
            .into_iter()
            .take(self.n_inputs)
        {
            let x = scene
                .input(&operand(DType::F32, shape.as_slice()))
                .normals(1.0)?;
            values.push((x.value, shape));
        }
        for step in &self.steps {
            let made = Self::step(scene, &values, *step)?;
            values.push(made);
        }
        // Only some values are read: the others are dead unless they lead there.
        for (i, (value, _)) in values.iter().rev().step_by(3).enumerate() {
            let gapless = scene.graph.contiguous(*value)?;
            scene.graph.output(&format!("y{i}"), gapless)?;
        }
        Ok(())
    }
}

#[test]
fn random_graphs_have_the_same_bits_with_and_without_passes() {
    let device = cpu(Isa::best());
    let config = Config {
        cases: 400,
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let graphs = (1usize..=3, vec(any::<[u8; 4]>(), 1..24))
        .prop_map(|(n_inputs, steps)| RandomGraph { n_inputs, steps });
    let outcome = runner.run(&graphs, |graph| {
        let posed = pose(&graph, false).map_err(|why| TestCaseError::fail(why.to_string()))?;
        let run = |passes| {
            let options = PlanOptions {
                precision: Precision::Exact,
                passes,
                collectives: None,
            };
            outputs(&posed, &*device, &options).map_err(|why| TestCaseError::fail(why.to_string()))
        };
        let plain = run(PassSet::none())?;
        for passes in pass_sets() {
            let text = format!("{passes:?}");
            if run(passes)? != plain {
                return Err(TestCaseError::fail(format!(
                    "other bits with {text}:\n{}",
                    posed.graph
                )));
            }
        }
        Ok(())
    });
    if let Err(why) = outcome {
        unreachable!("{why}");
    }
}
