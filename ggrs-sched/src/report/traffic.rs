//! From plans to the report's exchanges and ops, in the order in which they happen. It knows plans and no device.

use std::collections::{HashMap, VecDeque};

use ggrs_core::ops::{Collective, CollectiveKind, Op, Receive, Send};
use ggrs_core::plan::Plan;

use super::data::{CollectiveReport, CopyReport, Exchange, OpReport, StepReport};
use super::of_plan::{PlannedStep, Rows};
use super::placed::{LayerKey, Roles, leaves_read};
use crate::plan::{CopySource, CopyStep, PlanPart, SchedPlan};

/// A planned step as the report has it.
pub(super) fn step(step: &PlannedStep<'_>, rows: &Rows, roles: &Roles) -> StepReport {
    let plan = step.plan;
    let layers = Layers::of(plan, roles);
    let mut exchanges = Vec::new();
    let mut waiting: Vec<PartCollectives> = plan
        .parts
        .iter()
        .map(|part| PartCollectives::of(part, rows, &layers))
        .collect();
    let names = Readers::of(plan);
    for copy in &plan.copies {
        if let CopySource::Part { part, step } = copy.from
            && let Some(waiting) = waiting.get_mut(part)
        {
            waiting.flush(step, &mut exchanges);
        }
        if let Some(waiting) = waiting.get_mut(copy.to) {
            waiting.flush(copy.to_step, &mut exchanges);
        }
        exchanges.push(Exchange::Copy(copy_report(
            copy, plan, rows, &layers, &names,
        )));
    }
    for waiting in &mut waiting {
        waiting.flush(usize::MAX, &mut exchanges);
    }
    let places: HashMap<&str, &str> = plan.reasons.iter().map(|(n, w)| (&**n, &**w)).collect();
    let ops = plan
        .parts
        .iter()
        .flat_map(|p| ops(p, rows, &layers, &places))
        .collect();
    StepReport::new(step.name.clone(), step.n_tokens, exchanges, ops)
}

/// The layers of all steps of all parts.
struct Layers<'a> {
    roles: &'a Roles,
    /// For values that cross, by tag: the layer that they come from.
    arrivals: HashMap<u32, LayerKey>,
    parts: Vec<Vec<LayerKey>>,
}

impl<'a> Layers<'a> {
    fn of(plan: &SchedPlan, roles: &'a Roles) -> Self {
        let parts = plan.parts.iter();
        let mut layers = Self {
            roles,
            arrivals: HashMap::new(),
            parts: parts
                .map(|p| roles.layers(&p.plan, &HashMap::new()))
                .collect(),
        };
        // In the order of the copies, so that what arrived counts for what is sent on.
        for copy in &plan.copies {
            let CopySource::Part { part, step } = copy.from else {
                continue;
            };
            let (from, Some(to)) = (layers.at(part, step), plan.parts.get(copy.to)) else {
                continue;
            };
            let received = to.plan.steps.get(copy.to_step);
            let tag = received.and_then(|s| tag(&to.plan.graph.node(s.node).op));
            if let Some(tag) = tag.filter(|_| from > layers.at(copy.to, copy.to_step)) {
                layers.arrivals.insert(tag, from);
                if let Some(part) = layers.parts.get_mut(copy.to) {
                    *part = roles.layers(&to.plan, &layers.arrivals);
                }
            }
        }
        layers
    }

    fn at(&self, part: usize, step: usize) -> LayerKey {
        let layer = self.parts.get(part).and_then(|p| p.get(step));
        layer.copied().unwrap_or(LayerKey::Output)
    }

    /// The layers of a part's own plan or of a member's.
    fn of_program(&self, plan: &Plan) -> Vec<LayerKey> {
        self.roles.layers(plan, &self.arrivals)
    }
}

/// A part's collectives, each with the step of the whole part's plan before which it must have run.
struct PartCollectives {
    waiting: VecDeque<(usize, CollectiveReport)>,
}

impl PartCollectives {
    fn of(part: &PlanPart, rows: &Rows, layers: &Layers<'_>) -> Self {
        let mut waiting = VecDeque::new();
        // Every member has the same collectives in the same order.
        if let Some(member) = part.plan.members.first() {
            let handovers: HashMap<u32, usize> = part
                .plan
                .steps
                .iter()
                .enumerate()
                .filter_map(|(i, s)| Some((tag(&part.plan.graph.node(s.node).op)?, i)))
                .collect();
            let layers = layers.of_program(member);
            let notes = part.plan.collectives.iter();
            let reasons: HashMap<&str, &str> = notes.map(|(n, why)| (&**n, &**why)).collect();
            let first = rows.row(part.device) + 1;
            let mut after = 0;
            for (step, layer) in member.steps.iter().zip(layers) {
                let node = member.graph.node(step.node);
                if let Some(i) = tag(&node.op).and_then(|t| handovers.get(&t)) {
                    after = after.max(i + 1);
                }
                if let Op::Collective(collective) = &node.op {
                    let members = (first..first + part.plan.members.len()).collect();
                    let mut report = collective_report(member, step, collective, layer, members);
                    if let Some(why) = reasons.get(&*node.name) {
                        report.why = format!("{why}; {}", report.why);
                    }
                    waiting.push_back((after, report));
                }
            }
        }
        Self { waiting }
    }

    /// Those that run before a handover at `step`.
    fn flush(&mut self, step: usize, exchanges: &mut Vec<Exchange>) {
        while let Some((after, _)) = self.waiting.front()
            && *after <= step
        {
            let next = self.waiting.pop_front();
            exchanges.extend(next.map(|(_, c)| Exchange::Collective(c)));
        }
    }
}

/// The tag of a value that is handed over.
fn tag(op: &Op) -> Option<u32> {
    match op {
        Op::Send(Send { tag }) | Op::Receive(Receive { tag, .. }) => Some(*tag),
        _ => None,
    }
}

fn collective_report(
    plan: &Plan,
    step: &ggrs_core::plan::Step,
    collective: &Collective,
    layer: LayerKey,
    members: Vec<usize>,
) -> CollectiveReport {
    let node = plan.graph.node(step.node);
    let (ins, outs) = plan.graph.io(node);
    let sizes = ins.iter().chain(&outs);
    let largest = sizes.max_by_key(|d| d.bytes());
    let bytes = largest.and_then(|d| d.bytes()).unwrap_or(0) as u64;
    // A ring: a sum goes round twice, a gather or scatter once, without the part that stays.
    let hops = members.len().saturating_sub(1) as u64;
    let rounds = match collective.kind {
        CollectiveKind::AllReduce => 2,
        CollectiveKind::AllGather { .. } | CollectiveKind::ReduceScatter { .. } => 1,
    };
    let dtype = largest.map(|d| d.dtype.to_string()).unwrap_or_default();
    CollectiveReport {
        layer: layer.name(),
        node: node.name.to_string(),
        kind: node.op.spec().stem().to_owned(),
        members,
        wire_dtype: dtype.clone(),
        dtype,
        shape: largest
            .map(|d| d.shape.sizes().to_vec())
            .unwrap_or_default(),
        bytes,
        wire_bytes: bytes.saturating_mul(hops).saturating_mul(rounds),
        transport: step.route.kernel.to_string(),
        why: step.route.reason.to_string(),
    }
}

/// For each part, what the node of a name reads that lives there.
struct Readers<'a> {
    leaves: HashMap<(usize, &'a str), Vec<&'a str>>,
    homes: HashMap<&'a str, &'a str>,
}

impl<'a> Readers<'a> {
    fn of(plan: &'a SchedPlan) -> Self {
        let mut leaves = HashMap::new();
        for (i, part) in plan.parts.iter().enumerate() {
            let graph = &part.plan.graph;
            for step in &part.plan.steps {
                let read: Vec<&str> = leaves_read(graph, step).collect();
                if !read.is_empty() {
                    leaves.insert((i, &*graph.node(step.node).name), read);
                }
            }
        }
        let homes = plan.homes.iter().map(|h| (&*h.name, &*h.why)).collect();
        Self { leaves, homes }
    }

    fn why(&self, copy: &CopyStep) -> String {
        let reader = &copy.reader;
        let read = self.leaves.get(&(copy.to, reader.as_str()));
        let leaf = read.into_iter().flatten().find_map(|leaf| {
            let why = self.homes.get(leaf)?;
            Some((*leaf, *why))
        });
        match leaf {
            Some((leaf, why)) => format!("for {reader}, which reads {leaf} there ({why})"),
            None => format!("for {reader}"),
        }
    }
}

fn copy_report(
    copy: &CopyStep,
    plan: &SchedPlan,
    rows: &Rows,
    layers: &Layers<'_>,
    names: &Readers<'_>,
) -> CopyReport {
    let part = plan.parts.get(copy.to);
    let layer = layers.at(copy.to, copy.to_step);
    let from = match copy.from {
        CopySource::Part { part, .. } => plan.parts.get(part).map(|p| rows.row(p.device)),
        CopySource::File => None,
    };
    CopyReport {
        layer: layer.name(),
        value: copy.name.clone(),
        from,
        to: part.map_or(0, |p| rows.row(p.device)),
        dtype: copy.desc.dtype.to_string(),
        shape: copy.desc.shape.sizes().to_vec(),
        bytes: copy.bytes,
        why: names.why(copy),
    }
}

/// What runs for a part, on its device or on each member.
fn ops(
    part: &PlanPart,
    rows: &Rows,
    layers: &Layers<'_>,
    places: &HashMap<&str, &str>,
) -> Vec<OpReport> {
    let mut ops = Vec::new();
    for program in rows.programs(part) {
        let graph = &program.plan.graph;
        let layers = layers.of_program(program.plan);
        let steps = program.plan.steps.iter().zip(layers).enumerate();
        for (index, (step, layer)) in steps {
            let node = graph.node(step.node);
            if node.op.is_exchange() {
                continue;
            }
            let (ins, outs) = graph.io(node);
            let kernel_reason = &step.route.reason;
            let reason = match places.get(&*node.name) {
                Some(why) => format!("{kernel_reason}; here: {why}"),
                None => kernel_reason.to_string(),
            };
            ops.push(OpReport {
                index,
                layer: layer.name(),
                node: node.name.to_string(),
                op: node.op.spec().stem().to_owned(),
                device: program.row,
                kernel: step.route.kernel.to_string(),
                reason,
                flops: node.op.spec().flops(&ins, &outs),
                bytes: node.op.spec().bytes(&ins, &outs),
            });
        }
    }
    ops
}
