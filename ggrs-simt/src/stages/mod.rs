//! Stages: neighbouring steps of a plan that run as fewer launches than each on its own would.
//!
//! Each file recognises one sequence of steps and says which launches do it. A stage is found when a plan is made and
//! again when it is compiled, by the same pure function.

mod experts;
mod experts_many;
mod norm_products;
mod qk_prep;
mod same_rows;
mod walk;

use std::borrow::Cow;
use std::ops::Range;

use ggrs_core::device::{Fusion, FusionRequest, Precision, Route};

use crate::driver::{DevicePtr, Facts};
use crate::kernel::{Args, FaultKind, Launch, ModuleKey};
use crate::kernels;
use crate::params::FaultCell;

pub(crate) use walk::Walk;

/// A step's memory and that of its neighbours in a stage.
pub(crate) struct StageArgs<'a> {
    /// Operands and results of each step.
    pub(crate) steps: &'a [Args<'a>],
    /// The stage's working memory.
    pub(crate) scratch: DevicePtr,
    /// The stage's counters.
    pub(crate) counters: DevicePtr,
    /// The stage's fault cells, as declared.
    pub(crate) cells: &'a [FaultCell],
}

/// Makes the launches of a stage once its memory is known.
type Build = Box<dyn Fn(&StageArgs<'_>) -> Vec<Launch> + Send + Sync>;

/// Steps that run together.
pub(crate) struct Stage {
    /// Which.
    pub(crate) steps: Range<usize>,
    route: Route,
    /// What its launches may find wrong, by the step that the user knows.
    pub(crate) faults: Vec<(usize, FaultKind)>,
    /// Counters of its launches: see [`Choice::counters`](crate::kernel::Choice::counters).
    pub(crate) n_counters: usize,
    build: Build,
}

impl Stage {
    /// A stage by its name, why, its working memory and its launches.
    pub(crate) fn new(
        steps: Range<usize>,
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        scratch_bytes: u64,
        build: impl Fn(&StageArgs<'_>) -> Vec<Launch> + Send + Sync + 'static,
    ) -> Self {
        Self {
            steps,
            route: Route {
                kernel: name.into(),
                reason: reason.into(),
                scratch_bytes,
            },
            faults: Vec::new(),
            n_counters: 0,
            build: Box::new(build),
        }
    }

    /// The same, able to report a fault of the step at `position` of the plan.
    #[must_use]
    pub(crate) fn fault(mut self, position: usize, kind: FaultKind) -> Self {
        self.faults.push((position, kind));
        self
    }

    /// The same with more faults, likewise.
    #[must_use]
    pub(crate) fn faults(mut self, faults: Vec<(usize, FaultKind)>) -> Self {
        self.faults.extend(faults);
        self
    }

    /// The same with counters.
    #[must_use]
    pub(crate) const fn counters(mut self, n: usize) -> Self {
        self.n_counters = n;
        self
    }

    /// What the plan records.
    pub(crate) fn fusion(&self) -> Fusion {
        Fusion {
            steps: self.steps.clone(),
            route: self.route.clone(),
        }
    }

    /// The launches over the stage's memory.
    pub(crate) fn build(&self, args: &StageArgs<'_>) -> Vec<Launch> {
        (self.build)(args)
    }
}

/// A recogniser: the stage that begins at a step, if there is one.
type Find = fn(&Walk<'_>, usize) -> Option<Stage>;

/// The recognisers, in the order in which they are tried.
const FINDERS: &[Find] = &[
    experts::find,
    norm_products::find,
    qk_prep::find,
    experts_many::find,
    same_rows::find,
];

/// Every module that stages can ask for.
pub(crate) fn modules() -> Vec<ModuleKey> {
    [kernels::qk_prep::modules(), experts_many::modules()].concat()
}

/// The stages of a plan's steps, in order and apart from each other. Exact plans have none: they are what others are
/// judged by.
pub(crate) fn stages(request: &FusionRequest<'_>, facts: &Facts) -> Vec<Stage> {
    let mut found = Vec::new();
    if request.precision == Precision::Exact {
        return found;
    }
    let walk = Walk::new(request, facts);
    let mut at = 0;
    while at < request.nodes.len() {
        match FINDERS.iter().find_map(|find| find(&walk, at)) {
            Some(stage) => {
                at = stage.steps.end.max(at + 1);
                found.push(stage);
            }
            None => at += 1,
        }
    }
    found
}
