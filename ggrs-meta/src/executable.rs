//! A plan over members, ready to run: every member's own executable, and the collectives in which they meet. It must
//! not know kernels, nor how data moves.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ggrs_core::device::{
    Bindings, BufferSlice, CaptureState, Device, Executable, KernelTime, Queue,
};
use ggrs_core::ops::Op;
use ggrs_core::plan::Plan;
use ggrs_core::{BindError, DeviceError, ExecError, TensorDesc, ValueId};

use crate::bind::{Bound, bind, values};
use crate::buffer::Identity;
use crate::crew::{Crew, Failure, Work};
use crate::profile::{check_meetings, slowest, union};
use crate::schedule::{Gap, Schedule};
use crate::transport::{Exchange, Transport};

/// A compiled plan over members.
pub(crate) struct MetaExecutable {
    identity: Arc<Identity>,
    plan: Arc<Plan>,
    bound: Vec<Bound>,
    values: HashMap<ValueId, BufferSlice>,
    schedule: Schedule,
    collectives: Collectives,
    crew: Crew<Member>,
    patience: Duration,
    /// The failure after which nothing can go on.
    broken: Option<ExecError>,
}

/// A member's part of the plan, and the queue on which it runs.
struct Member {
    executable: Box<dyn Executable>,
    queue: Box<dyn Queue>,
    /// What it timed last.
    timed: Option<KernelTime>,
}

/// What a member does beside the others.
enum Job {
    /// Runs steps of its plan.
    Run(Range<usize>),
    /// Times a kernel.
    Time(String),
}

impl Work for Member {
    type Job = Job;
    type Error = ExecError;

    fn work(&mut self, job: Job) -> Result<(), ExecError> {
        match job {
            Job::Run(steps) => {
                let fence = self.queue.submit(&mut *self.executable, steps)?;
                self.queue.wait(fence)
            }
            Job::Time(kernel) => {
                self.timed = self.executable.time_kernel(&kernel)?;
                Ok(())
            }
        }
    }
}

/// The plan's collectives over the members' memory.
struct Collectives {
    exchanges: Vec<Exchange>,
    transport: Arc<dyn Transport>,
    queues: Vec<Box<dyn Queue>>,
    staging: Vec<u8>,
}

impl Collectives {
    fn run(&mut self, i: usize) -> Result<(), ExecError> {
        let Some(exchange) = self.exchanges.get(i) else {
            return Ok(());
        };
        let (queues, staging) = (&mut self.queues, &mut self.staging);
        let moved = self.transport.exchange(exchange, queues, staging);
        moved.map_err(|source| ExecError::Collective {
            op: exchange.op,
            node: exchange.node.clone(),
            transport: self.transport.name(),
            members: exchange.members.clone(),
            source: Box::new(source),
        })
    }
}

impl MetaExecutable {
    /// Binds memory to a plan: each member's share to the member's plan.
    pub(crate) fn new(
        identity: &Arc<Identity>,
        devices: &[Arc<dyn Device>],
        transport: &Arc<dyn Transport>,
        patience: Duration,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Self, BindError> {
        let foreign = || DeviceError::Setting {
            device: identity.name.clone(),
            setting: "plan",
            value: format!("a plan of {} members", plan.members.len()),
            possible: "a plan that was made for this device".to_owned(),
        };
        let schedule = Schedule::new(plan, &identity.members).ok();
        let schedule = schedule.filter(|_| plan.members.len() == devices.len());
        let schedule = schedule.ok_or_else(foreign)?;
        let (bound, own) = bind(identity, plan, bindings)?;
        let mut executables = Vec::with_capacity(devices.len());
        let members = devices.iter().zip(&plan.members).zip(own);
        for (member, ((device, plan), own)) in members.enumerate() {
            let compiled = device.compile(plan, &own);
            executables.push(compiled.map_err(|source| BindError::Member {
                member: identity.member(member),
                source: Box::new(source),
            })?);
        }
        let values = values(identity, plan, &executables, &bound)?;
        let queues = || {
            devices
                .iter()
                .map(|d| d.queue())
                .collect::<Result<Vec<_>, _>>()
        };
        let exchanges = exchanges(identity, &schedule, &executables)?;
        let needs = exchanges.iter().map(|e| transport.staging_bytes(e));
        let collectives = Collectives {
            staging: vec![0; needs.max().unwrap_or(0)],
            exchanges,
            transport: Arc::clone(transport),
            queues: queues()?,
        };
        let members = executables.into_iter().zip(queues()?);
        let mut members = members.map(|(executable, queue)| Member {
            executable,
            queue,
            timed: None,
        });
        let lead = members.next().ok_or_else(foreign)?;
        let crew = Crew::new(lead, members.collect(), patience);
        let crew = crew.map_err(|error| DeviceError::System {
            device: identity.name.clone(),
            what: "starting a thread",
            code: error.to_string(),
        })?;
        Ok(Self {
            identity: Arc::clone(identity),
            plan: Arc::clone(plan),
            bound,
            values,
            schedule,
            collectives,
            crew,
            patience,
            broken: None,
        })
    }

    fn check_generations(&self) -> Result<(), ExecError> {
        let is_stale = |b: &&Bound| b.buffer.generation().now() != b.generation;
        match self.bound.iter().find(is_stale) {
            Some(stale) => Err(ExecError::StaleBinding {
                name: stale.name.clone(),
            }),
            None => Ok(()),
        }
    }

    fn check_broken(&self) -> Result<(), ExecError> {
        match &self.broken {
            Some(source) => Err(ExecError::Broken {
                device: self.identity.name.clone(),
                source: Box::new(source.clone()),
            }),
            None => Ok(()),
        }
    }

    /// Makes an error of a member's failure; after some nothing can go on.
    fn failed(&mut self, failure: Failure<ExecError>) -> ExecError {
        let (member, source, is_final) = match failure {
            Failure::Failed(member, source) => (member, source, false),
            Failure::Panicked(member, cause) => {
                let device = self.identity.member(member);
                (member, DeviceError::Lost { device, cause }.into(), true)
            }
            Failure::Late(member) => {
                let late = DeviceError::Timeout {
                    device: self.identity.member(member),
                    what: "its part of a run".to_owned(),
                    waited_ms: u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX),
                };
                (member, late.into(), true)
            }
        };
        let error = ExecError::Member {
            member: self.identity.member(member),
            source: Box::new(source),
        };
        if is_final {
            self.broken = Some(error.clone());
        }
        error
    }
}

/// Why a gap was not run to its end.
enum Stop {
    Member(Failure<ExecError>),
    Collective(ExecError),
}

/// What members do between two handovers: side by side up to a collective, then the collective, and so on.
fn run_gap(crew: &mut Crew<Member>, collectives: &mut Collectives, gap: &Gap) -> Result<(), Stop> {
    for phase in &gap.phases {
        let job = |member: usize| {
            let steps = phase.steps.get(member).filter(|s| !s.is_empty())?;
            Some(Job::Run(steps.clone()))
        };
        crew.run(job).map_err(Stop::Member)?;
        if let Some(collective) = phase.then {
            collectives.run(collective).map_err(Stop::Collective)?;
        }
    }
    Ok(())
}

impl Executable for MetaExecutable {
    fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        self.values.get(&value).cloned()
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        self.check_broken()?;
        self.check_generations()?;
        let Some(gap) = self.schedule.gap(&steps) else {
            return Err(ExecError::Steps {
                device: self.identity.name.clone(),
                steps,
                n_steps: self.plan.steps.len(),
            });
        };
        match run_gap(&mut self.crew, &mut self.collectives, gap) {
            Ok(()) => Ok(()),
            Err(Stop::Collective(error)) => Err(error),
            Err(Stop::Member(failure)) => Err(self.failed(failure)),
        }
    }

    fn capture_state(&self) -> CaptureState {
        if self.broken.is_some() {
            return CaptureState::Eager;
        }
        let states = self.crew.look(Member::capture_state);
        let mut states = states.into_iter().flatten();
        // Members are captured when each has run; until all have, some are still armed.
        let first = states.next().unwrap_or(CaptureState::Eager);
        states.fold(
            first,
            |all, one| if all == one { all } else { CaptureState::Armed },
        )
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.check_broken()?;
        let state = self.capture_state();
        if state != CaptureState::Eager {
            return Err(ExecError::Capture {
                asked: "capture",
                state: state.name(),
            });
        }
        let armed = self.crew.each(|member| member.executable.capture());
        let failed = armed
            .into_iter()
            .enumerate()
            .find_map(|(i, r)| Some((i, r.err()?)));
        let Some((member, source)) = failed else {
            return Ok(());
        };
        self.release_capture();
        Err(self.failed(Failure::Failed(member, source)))
    }

    fn kernels(&self) -> Vec<String> {
        if self.broken.is_some() {
            return Vec::new();
        }
        union(self.crew.look(|member| member.executable.kernels()))
    }

    /// All members that have the kernel time it at once, in their threads.
    fn time_kernel(&mut self, kernel: &str) -> Result<Option<KernelTime>, ExecError> {
        self.check_broken()?;
        let plans = self.plan.members.iter().map(|plan| &**plan);
        let names = self.identity.members.iter().map(String::as_str);
        check_meetings(kernel, names.zip(plans))?;
        let job = |_| Some(Job::Time(kernel.to_owned()));
        if let Err(failure) = self.crew.run(job) {
            return Err(self.failed(failure));
        }
        let timed = self.crew.each(|member| member.timed.take());
        Ok(slowest(timed.into_iter().flatten()))
    }

    fn release_capture(&mut self) {
        if self.broken.is_none() {
            self.crew.each(|member| member.executable.release_capture());
        }
    }
}

impl Member {
    /// Where the member's capture stands; `None` if it has nothing to run.
    fn capture_state(&self) -> Option<CaptureState> {
        let runs = self.executable.plan().steps.iter().any(|s| !s.is_exchange);
        runs.then(|| self.executable.capture_state())
    }
}

/// The collectives over the members' memory.
fn exchanges(
    identity: &Identity,
    schedule: &Schedule,
    members: &[Box<dyn Executable>],
) -> Result<Vec<Exchange>, DeviceError> {
    let mut exchanges = Vec::with_capacity(schedule.collectives.len());
    for steps in &schedule.collectives {
        let (mut ops, mut name) = (Vec::new(), "");
        let (mut ins, mut outs) = (Vec::new(), Vec::new());
        for (executable, step) in members.iter().zip(steps) {
            let plan = executable.plan();
            let Some(node) = plan.steps.get(*step).map(|s| plan.graph.node(s.node)) else {
                continue;
            };
            if let Op::Collective(op) = &node.op {
                ops.push(op);
                name = &node.name;
                ins.extend(
                    node.inputs
                        .iter()
                        .filter_map(|v| located(&**executable, *v)),
                );
                outs.extend(
                    node.outputs
                        .iter()
                        .filter_map(|v| located(&**executable, *v)),
                );
            }
        }
        let exchange = Exchange::new(name, &ops, &identity.members, ins, outs);
        exchanges.push(exchange.map_err(|source| identity.shard_error(name, source))?);
    }
    Ok(exchanges)
}

/// A value's description and memory.
fn located(executable: &dyn Executable, value: ValueId) -> Option<(TensorDesc, BufferSlice)> {
    let desc = executable.plan().graph.desc(value).clone();
    Some((desc, executable.value(value)?))
}
