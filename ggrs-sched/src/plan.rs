//! The plan over several devices: one plan per device, and what is copied between them. Pure data.

use std::collections::HashMap;
use std::sync::Arc;

use ggrs_core::ops::Op;
use ggrs_core::passes::PassReport;
use ggrs_core::plan::{DeviceBytes, Plan, PlanOptions, plan};
use ggrs_core::{Graph, PlanError, TensorDesc};

use crate::SchedError;
use crate::assign::{Assignment, Why, assign};
use crate::cut::{Crossing, cut};
use crate::placement::{Home, Placement};

/// A graph planned over several devices.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedPlan {
    /// All devices of the placement, as the user names them; indices below count in this list.
    pub devices: Vec<String>,
    /// The plans of the devices that run something.
    pub parts: Vec<PlanPart>,
    /// What is copied between runs of steps, in this order.
    pub copies: Vec<CopyStep>,
    /// Where weights and states live, and why.
    pub homes: Vec<Home>,
    /// For each node of the whole graph that runs, why it is on its device; none if there is only one.
    pub reasons: Vec<(String, String)>,
    /// Nodes that run elsewhere than the rules said, with the reason.
    pub notes: Vec<(String, String)>,
    /// What the passes did to the whole graph.
    pub passes: Vec<PassReport>,
}

/// One device's part.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanPart {
    /// The device, by index.
    pub device: usize,
    /// Its plan.
    pub plan: Arc<Plan>,
}

/// A value copied from one device to another.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyStep {
    /// Where it comes from.
    pub from: CopySource,
    /// The part that takes it, by position in [`SchedPlan::parts`].
    pub to: usize,
    /// The step of that part in whose place it arrives.
    pub to_step: usize,
    /// The value's name.
    pub name: String,
    /// What is copied, without gaps.
    pub desc: TensorDesc,
    /// Bytes.
    pub bytes: u64,
    /// The node that reads it there.
    pub reader: String,
}

/// Where a copied value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A step of another part.
    Part {
        /// Position in [`SchedPlan::parts`].
        part: usize,
        /// The step in whose place it is taken.
        step: usize,
    },
    /// The weight of this name, as it stands in the model's file.
    File,
}

impl SchedPlan {
    /// Places and plans a bound graph.
    ///
    /// # Errors
    /// A placement that cannot be met, an op that no device runs, a device without memory for its part.
    pub fn new(
        graph: &Graph,
        placement: &Placement,
        options: &PlanOptions,
    ) -> Result<Self, SchedError> {
        let devices = placement.names();
        if !graph.symbols().is_empty() {
            let symbols = graph.symbols().iter().map(|s| s.name).collect();
            return Err(PlanError::Symbolic { symbols }.into());
        }
        if let [device] = placement.devices.as_slice() {
            // Nothing to place.
            let plan = Arc::new(plan(graph, &**device, options)?);
            return Ok(Self::whole(devices, 0, plan, Vec::new()));
        }
        // A residual and the next layer's norm may lie on two devices: one op of both would take two values over the
        // border. Each part is fused on its own, where both are on one device.
        let before_cut = options.passes.clone().without("fuse_add_norm");
        let (graph, passes) = before_cut.run(graph)?;
        let homes = placement.homes(&graph)?;
        let assignment = assign(&graph, placement, &homes, options.precision)?;
        let mut assigned = assignment.device.iter().flatten();
        let first = assigned.next().copied().unwrap_or(0);
        let streams = assignment.why.iter().any(|w| matches!(w, Why::Streams(_)));
        if assigned.all(|d| *d == first)
            && !streams
            && let Some(device) = placement.devices.get(first)
        {
            let plan = Arc::new(plan(&graph, &**device, options)?);
            let mut whole = Self::whole(devices, first, plan, homes);
            whole.reasons = reasons(&graph, &assignment, &whole.homes);
            whole.notes = notes(&graph, &assignment);
            return Ok(whole);
        }
        let cut = cut(&graph, &assignment, &homes, &devices)?;
        let mut parts = Vec::with_capacity(cut.parts.len());
        for (device, part) in cut.parts {
            let Some(opened) = placement.devices.get(device) else {
                continue;
            };
            let plan = Arc::new(plan(&part, &**opened, options)?);
            parts.push(PlanPart { device, plan });
        }
        Ok(Self {
            copies: copies(&graph, &parts, cut.crossings),
            devices,
            parts,
            reasons: reasons(&graph, &assignment, &homes),
            homes,
            notes: notes(&graph, &assignment),
            passes,
        })
    }

    /// A graph that runs on one device.
    fn whole(devices: Vec<String>, device: usize, plan: Arc<Plan>, homes: Vec<Home>) -> Self {
        Self {
            devices,
            passes: plan.passes.clone(),
            parts: vec![PlanPart { device, plan }],
            copies: Vec::new(),
            homes,
            reasons: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Bytes on every device that runs something; of a device made of several, on each member.
    pub fn device_bytes(&self) -> Vec<DeviceBytes> {
        self.parts
            .iter()
            .flat_map(|p| p.plan.device_bytes())
            .collect()
    }

    /// Floating-point operations and bytes of one run.
    pub fn cost(&self) -> ggrs_core::ops::Cost {
        self.parts
            .iter()
            .fold(Default::default(), |sum: ggrs_core::ops::Cost, part| {
                let cost = part.plan.cost();
                ggrs_core::ops::Cost {
                    flops: sum.flops + cost.flops,
                    bytes: sum.bytes + cost.bytes,
                }
            })
    }

    /// Steps of all parts.
    pub fn n_steps(&self) -> usize {
        self.parts.iter().map(|p| p.plan.steps.len()).sum()
    }

    /// Collectives of one run, and the bytes that a member gives to them.
    pub fn collectives(&self) -> (usize, u64) {
        let mut sum = (0, 0);
        for plan in self.parts.iter().filter_map(|p| p.plan.members.first()) {
            for step in plan.steps.iter().filter(|s| s.is_exchange) {
                let node = plan.graph.node(step.node);
                if let (Op::Collective(_), Some(x)) = (&node.op, node.inputs.first()) {
                    let bytes = plan.graph.desc(*x).bytes().unwrap_or(0) as u64;
                    sum = (sum.0 + 1, sum.1 + bytes);
                }
            }
        }
        sum
    }

    /// A few lines: bytes on every device, what is copied, what members exchange.
    pub fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        // Writing to a String cannot fail.
        for d in self.device_bytes() {
            let (device, weights, states) = (&d.device, d.weights, d.states);
            let working = d.arena + d.constants;
            let _ = writeln!(
                out,
                "{device}: {weights} bytes of weights, {states} of states, {working} of working memory"
            );
        }
        let copied: u64 = self.copies.iter().map(|c| c.bytes).sum();
        let (n, bytes) = self.collectives();
        let _ = write!(
            out,
            "steps: {}; copies between devices: {} ({copied} bytes); collectives: {n} ({bytes} bytes from each member)",
            self.n_steps(),
            self.copies.len()
        );
        out
    }

    /// What is copied, then every part's own explanation.
    pub fn explain(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let name = |part: usize| {
            let device = self.parts.get(part).map(|p| p.device);
            device
                .and_then(|d| self.devices.get(d))
                .map_or("", String::as_str)
        };
        // Writing to a String cannot fail.
        for home in self.homes.iter().filter(|h| h.is_pinned) {
            let device = self.devices.get(home.device).map_or("", String::as_str);
            let _ = writeln!(out, "{} lives on {device}: {}", home.name, home.why);
        }
        for (node, why) in &self.notes {
            let _ = writeln!(out, "{node}: {why}");
        }
        for (node, why) in &self.reasons {
            let _ = writeln!(out, "{node} is where it is: {why}");
        }
        for copy in &self.copies {
            let from = match copy.from {
                CopySource::Part { part, .. } => name(part),
                CopySource::File => "the model's file",
            };
            let to = name(copy.to);
            let (value, desc, bytes, reader) = (&copy.name, &copy.desc, copy.bytes, &copy.reader);
            let _ = writeln!(
                out,
                "copy {value} {desc} ({bytes} bytes) from {from} to {to} for {reader}"
            );
        }
        for part in &self.parts {
            out.push_str(&part.plan.explain());
        }
        out
    }
}

fn reasons(graph: &Graph, assignment: &Assignment, homes: &[Home]) -> Vec<(String, String)> {
    let homes: HashMap<_, _> = homes.iter().map(|h| (h.value, h)).collect();
    let nodes = graph.nodes().iter().zip(&assignment.why);
    let said = nodes.filter_map(|(n, why)| Some((n.name.to_string(), why.in_words(&homes)?)));
    said.collect()
}

fn notes(graph: &Graph, assignment: &Assignment) -> Vec<(String, String)> {
    let named =
        |(id, why): &(ggrs_core::NodeId, String)| (graph.node(*id).name.to_string(), why.clone());
    assignment.notes.iter().map(named).collect()
}

/// The crossings as copies between steps of the parts' plans.
fn copies(graph: &Graph, parts: &[PlanPart], crossings: Vec<Crossing>) -> Vec<CopyStep> {
    // (device, tag) -> part, step; a device holds one end of a crossing.
    let mut steps: HashMap<(usize, u32), (usize, usize)> = HashMap::new();
    for (i, part) in parts.iter().enumerate() {
        for (step, planned) in part
            .plan
            .steps
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_exchange)
        {
            if let Op::Send(ggrs_core::ops::Send { tag })
            | Op::Receive(ggrs_core::ops::Receive { tag, .. }) =
                &part.plan.graph.node(planned.node).op
            {
                steps.insert((part.device, *tag), (i, step));
            }
        }
    }
    let placed = crossings.into_iter().filter_map(|c| {
        let (to, to_step) = *steps.get(&(c.to, c.tag))?;
        let from = match c.from {
            None => CopySource::File,
            Some(device) => {
                let (part, step) = *steps.get(&(device, c.tag))?;
                CopySource::Part { part, step }
            }
        };
        Some(CopyStep {
            from,
            to,
            to_step,
            bytes: c.desc.bytes().unwrap_or(0) as u64,
            name: c.name,
            desc: c.desc,
            reader: graph.node(c.reader).name.to_string(),
        })
    });
    placed.collect()
}
