//! All problems of one op on all devices of a target: table rows first, then random ones from a fixed seed.

use std::io::Write;
use std::sync::Arc;

use ggrs_core::device::{Device, Precision};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::PlanOptions;
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::share::Share;
use super::trial::{Trial, try_problem};
use crate::problem::{Problem, pose};
use crate::problems;

/// Random problems per op.
const RANDOM_CASES: u32 = 64;

/// What the suite runs on: devices that differ only in how they divide their work.
pub struct Target {
    /// In messages.
    pub name: String,
    /// All table rows run on each, random problems in turn.
    pub devices: Vec<Arc<dyn Device>>,
}

/// A table row that a target has no kernel for.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported {
    /// The op.
    pub stem: &'static str,
    /// The row's name.
    pub row: &'static str,
    /// Why that is so.
    pub reason: &'static str,
}

/// What one device has no kernel for: collectives of several members, which are for a meta device, which runs them between its members.
pub const ONE_DEVICE: &[Unsupported] = &[
    Unsupported {
        stem: "all_reduce",
        row: "Exchange { kind: AllReduce, members: 2, shape: [3, 4] }",
        reason: "several members are a meta device's business",
    },
    Unsupported {
        stem: "all_gather",
        row: "Exchange { kind: AllGather { axis: 1 }, members: 2, shape: [3, 4] }",
        reason: "several members are a meta device's business",
    },
    Unsupported {
        stem: "reduce_scatter",
        row: "Exchange { kind: ReduceScatter { axis: 1 }, members: 2, shape: [3, 4] }",
        reason: "several members are a meta device's business",
    },
];

/// Says on the terminal that hardware is missing, or fails if `GGRS_REQUIRE`, a list with commas, names it.
///
/// # Panics
/// If it is required and not there.
pub fn available(name: &str, is_there: bool) -> bool {
    if !is_there {
        let required = std::env::var("GGRS_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|wanted| wanted.trim() == name),
            "GGRS_REQUIRE names {name}, which this machine lacks"
        );
        // Not a print macro: the harness hides those of tests that pass.
        let _ = writeln!(std::io::stderr(), "skipped: this machine has no {name}");
    }
    is_there
}

/// Runs every problem of an op on the target. `unsupported` rows must be refused, all others must pass.
///
/// # Panics
/// With a line for every problem that fails.
pub fn check_stem(stem: &str, target: &Target, unsupported: &[Unsupported]) {
    let Some(family) = problems::of(stem) else {
        unreachable!("the op {stem} has no problems");
    };
    assert!(family.rows.len() > 2, "{stem} has too few table rows");
    let mut failures = Vec::new();
    let share = Share::from_env();
    let rows = family.rows.iter();
    for problem in rows.filter(|row| share.has(&format!("{row:?}"))) {
        let excuse = unsupported
            .iter()
            .find(|u| u.stem == stem && u.row == format!("{problem:?}"));
        failures.extend(
            check(
                &**problem,
                &target.devices,
                excuse.map(|excuse| excuse.reason),
            )
            .err(),
        );
    }
    for excuse in unsupported.iter().filter(|u| u.stem == stem) {
        let is_row = family
            .rows
            .iter()
            .any(|problem| excuse.row == format!("{problem:?}"));
        assert!(
            is_row,
            "{}: no row of {stem} is called {}",
            excuse.reason, excuse.row
        );
    }
    failures.extend(check_random(family.any, &target.devices, share).err());
    assert!(
        failures.is_empty(),
        "{} of {stem} fail on {}:\n{}",
        failures.len(),
        target.name,
        failures.join("\n")
    );
}

/// One problem on some devices, in both precisions. The graph runs as it was built, without passes.
fn check(
    problem: &dyn Problem,
    devices: &[Arc<dyn Device>],
    excuse: Option<&str>,
) -> Result<(), String> {
    let name = format!("{problem:?}");
    let posed = pose(problem, true).map_err(|error| format!("{name}: {error}"))?;
    for device in devices {
        for precision in [Precision::Exact, Precision::Fast] {
            let at = || {
                format!(
                    "{name} on {} ({}), {}",
                    device.info().name,
                    device.info().features,
                    precision.name()
                )
            };
            let options = PlanOptions {
                precision,
                passes: PassSet::none(),
                collectives: None,
            };
            match (try_problem(&posed, &**device, &options), excuse) {
                (Ok(Trial::Passed(_)), None) | (Ok(Trial::Refused(_)), Some(_)) => {}
                (Ok(Trial::Refused(why)), None) => return Err(format!("{}: {why}", at())),
                (Ok(Trial::Passed(_)), Some(reason)) => {
                    return Err(format!(
                        "{}: passes, but is listed as unsupported: {reason}",
                        at()
                    ));
                }
                (Err(failure), _) => return Err(format!("{}: {failure}", at())),
            }
        }
    }
    Ok(())
}

/// Random problems, always the same ones; each on one of the devices.
fn check_random(
    any: BoxedStrategy<Box<dyn Problem>>,
    devices: &[Arc<dyn Device>],
    share: Share,
) -> Result<(), String> {
    let config = Config {
        cases: RANDOM_CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&any, |problem| {
        let name = format!("{problem:?}");
        if !share.has(&name) {
            return Ok(());
        }
        let turn = name.len() % devices.len().max(1);
        let device = devices.get(turn..=turn).unwrap_or_default();
        check(&*problem, device, None).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, _)) => Err(format!("random: {reason}")),
        Err(TestError::Abort(reason)) => Err(format!("random problems cannot be made: {reason}")),
    }
}

/// Makes a test for every op, and one that no op is forgotten.
///
/// `conformance!(|| cpu(Isa::Scalar), unsupported: ONE_DEVICE)` inside a module: the first is a function or closure that
/// gives `Option<Target>`, `None` where the hardware is missing.
#[macro_export]
macro_rules! conformance {
    ($target:expr, unsupported: $unsupported:expr) => {
        $crate::conformance! {
            @ $target, $unsupported,
            input weight state constant reshape permute slice broadcast contiguous cast concat get_rows set_rows store
            cache_write add sub mul div scale clamp silu sigmoid softplus tanh gelu gelu_erf gelu_quick exp neg relu sqr
            sqrt sin cos swiglu geglu geglu_erf geglu_quick reglu rms_norm add_rms_norm layer_norm l2_norm softmax rope
            matmul matmul_glu matmul_id matmul_id_glu route_experts top_k argsort argmax sample sum mean cumsum attention
            ssm_conv gated_delta_net all_reduce all_gather reduce_scatter
        }
    };
    (@ $target:expr, $unsupported:expr, $($stem:ident)*) => {
        $(
            #[test]
            fn $stem() {
                if let Some(target) = ($target)() {
                    $crate::conformance::check_stem(stringify!($stem), &target, $unsupported);
                }
            }
        )*

        #[test]
        fn no_op_is_forgotten() {
            let mut stems = vec![$(stringify!($stem)),*];
            stems.sort_unstable();
            assert_eq!(stems, $crate::conformance::all_stems());
        }
    };
}
