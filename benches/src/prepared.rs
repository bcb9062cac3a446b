//! A problem on a device, ready to run: weights loaded, states and inputs written.

use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{
    Bindings, BufferSlice, BufferUse, Device, Precision, Runner, WeightSource,
};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{Plan, PlanOptions, plan};
use ggrs_tests::conformance::{Trial, try_problem};
use ggrs_tests::problem::{LeafData, Posed, Problem, pose};

use crate::Work;

/// A problem ready to run.
pub struct Prepared {
    /// Runs it.
    pub runner: Runner,
    /// What one run does.
    pub work: Work,
    /// Are there weights in a block format?
    pub quantised: bool,
    /// The kernel of the op that the problem is about.
    pub kernel: String,
}

/// Checks the kernel on the small problem against the oracle, then prepares the large one.
///
/// # Errors
/// The small problem fails or is refused, or the large one cannot be prepared.
pub fn prepare(
    device: &dyn Device,
    small: &dyn Problem,
    large: &dyn Problem,
) -> Result<Prepared, Box<dyn Error>> {
    let options = PlanOptions {
        precision: Precision::Fast,
        passes: PassSet::none(),
        collectives: None,
    };
    check(device, small, &options)?;
    let posed = pose(large, false)?;
    let plan = Arc::new(plan(&posed.graph, device, &options)?);
    let mut runner = Runner::new(device, &plan, &bind(&posed, device, &plan)?)?;
    for slot in &plan.inputs {
        runner.set(&slot.name, &leaf(&posed, &slot.name)?.bytes)?;
    }
    runner.executable().capture()?;
    let cost = plan.cost();
    let kernel = plan
        .steps
        .last()
        .map(|s| s.route.kernel.to_string())
        .unwrap_or_default();
    Ok(Prepared {
        runner,
        quantised: plan.weights.iter().any(|w| w.desc.dtype.is_block()),
        work: Work {
            flops: cost.flops,
            bytes: cost.bytes,
        },
        kernel,
    })
}

/// Compares all of a problem with the oracle.
pub(crate) fn check(
    device: &dyn Device,
    problem: &dyn Problem,
    options: &PlanOptions,
) -> Result<(), Box<dyn Error>> {
    match try_problem(&pose(problem, true)?, device, options) {
        Ok(Trial::Passed(_)) => Ok(()),
        Ok(Trial::Refused(why)) => Err(format!("{problem:?} is refused: {why}").into()),
        Err(failure) => Err(format!("{problem:?} is wrong: {failure:?}").into()),
    }
}

pub(crate) fn bind(
    posed: &Posed,
    device: &dyn Device,
    plan: &Plan,
) -> Result<Bindings, Box<dyn Error>> {
    let mut bindings = Bindings::new();
    for slot in &plan.weights {
        let source = WeightSource {
            bytes: &leaf(posed, &slot.name)?.bytes,
            owner: None,
        };
        bindings.insert(&slot.name, device.load_weight(slot, source)?);
    }
    let mut queue = device.queue()?;
    for slot in &plan.states {
        let buffer = device.alloc(slot.bytes, BufferUse::State)?;
        queue.upload(
            &BufferSlice::whole(Arc::clone(&buffer)),
            &leaf(posed, &slot.name)?.bytes,
        )?;
        bindings.insert(&slot.name, buffer);
    }
    Ok(bindings)
}

pub(crate) fn leaf<'a>(posed: &'a Posed, name: &str) -> Result<&'a LeafData, String> {
    posed
        .leaves
        .iter()
        .find(|l| l.name == name)
        .ok_or_else(|| format!("no data for \"{name}\""))
}
