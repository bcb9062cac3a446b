//! What runs a plan's steps: a kernel for one step, or a stage for several; found again from the plan when it is
//! compiled, and checked to be what the plan says.

use std::collections::HashMap;
use std::ops::Range;

use ggrs_core::DeviceError;
use ggrs_core::device::{BoundMemory, FusionRequest};
use ggrs_core::plan::Step;

use crate::context::Context;
use crate::driver::DevicePtr;
use crate::kernel::{Args, Choice, Entry, FaultKind};
use crate::params::FaultCell;
use crate::places::Operands;
use crate::routes;
use crate::stages::{self, Stage, StageArgs};

/// What runs one step or several.
pub(crate) enum Work {
    /// A kernel, by its step.
    Kernel(usize, Choice),
    /// A stage.
    Stage(Stage),
}

impl Work {
    /// The steps it runs.
    pub(crate) fn steps(&self) -> Range<usize> {
        match self {
            Self::Kernel(step, _) => *step..step + 1,
            Self::Stage(stage) => stage.steps.clone(),
        }
    }

    /// The kernel's name in the plan.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Kernel(_, choice) => choice.route().kernel.into_owned(),
            Self::Stage(stage) => stage.fusion().route.kernel.into_owned(),
        }
    }

    /// What it may find wrong with data, by step.
    pub(crate) fn faults(&self) -> Vec<(usize, FaultKind)> {
        match self {
            Self::Kernel(step, choice) => choice.faults().iter().map(|k| (*step, *k)).collect(),
            Self::Stage(stage) => stage.faults.clone(),
        }
    }

    /// How many counters it has.
    pub(crate) const fn n_counters(&self) -> usize {
        match self {
            Self::Kernel(_, choice) => choice.n_counters(),
            Self::Stage(stage) => stage.n_counters,
        }
    }

    /// What it puts into the stream; `operands` are those of all steps.
    pub(crate) fn entries(
        &self,
        operands: &[Operands<'_>],
        cells: &[FaultCell],
        counters: DevicePtr,
    ) -> Vec<Entry> {
        let own = operands.get(self.steps()).unwrap_or_default();
        let args: Vec<Args<'_>> = own
            .iter()
            .map(|o| Args {
                inputs: &o.inputs,
                outputs: &o.outputs,
                scratch: o.scratch,
                counters,
                cells,
            })
            .collect();
        match (self, args.first()) {
            (Self::Kernel(_, choice), Some(args)) => choice.entries(args),
            (Self::Stage(stage), first) => {
                let launches = stage.build(&StageArgs {
                    steps: &args,
                    scratch: first.map_or(DevicePtr(0), |a| a.scratch),
                    counters,
                    cells,
                });
                launches.into_iter().map(Entry::Launch).collect()
            }
            (Self::Kernel(..), None) => Vec::new(),
        }
    }
}

/// What runs each step of a plan, in order; exchanges run outside.
pub(crate) fn works(context: &Context, memory: &BoundMemory) -> Result<Vec<Work>, DeviceError> {
    let plan = memory.plan();
    let forms: HashMap<_, _> = plan.weights.iter().map(|w| (w.value, w.form)).collect();
    let nodes: Vec<_> = plan.steps.iter().map(|s| s.node).collect();
    let stages = stages::stages(
        &FusionRequest {
            graph: &plan.graph,
            nodes: &nodes,
            forms: &forms,
            precision: plan.precision,
        },
        context.facts(),
    );
    let mut stages = stages.into_iter().peekable();
    let mut works = Vec::new();
    let mut covered = 0;
    for (i, step) in plan.steps.iter().enumerate() {
        if step.is_exchange || i < covered {
            continue;
        }
        let work = match stages.next_if(|stage| stage.steps.start == i) {
            Some(stage) if stage.fusion().route == step.route => {
                covered = stage.steps.end;
                Work::Stage(stage)
            }
            Some(_) => return Err(memory.foreign_plan(step)),
            None => Work::Kernel(i, choose(context, memory, step)?),
        };
        works.push(work);
    }
    Ok(works)
}

/// The kernel of a step: the one that the plan's route names.
fn choose(context: &Context, memory: &BoundMemory, step: &Step) -> Result<Choice, DeviceError> {
    let link = context.membership.link();
    let chosen = memory.with_request(step, |operands| {
        routes::choose(&context.request(operands, link.as_deref())).ok()
    });
    let planned = |choice: &Choice| {
        let route = choice.route();
        route.kernel == step.route.kernel && route.scratch_bytes <= step.route.scratch_bytes
    };
    chosen
        .filter(planned)
        .ok_or_else(|| memory.foreign_plan(step))
}
