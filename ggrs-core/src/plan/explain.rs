//! What a plan says of itself, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Place, Plan};
use crate::device::{Route, WeightForm};
use crate::passes::PassReport;

/// A plan in words and numbers.
#[derive(Serialize)]
struct Explanation<'a> {
    precision: &'static str,
    devices: &'a [String],
    arena_bytes: &'a [u64],
    weight_bytes: u64,
    state_bytes: u64,
    flops: f64,
    bytes: f64,
    weights: Vec<WeightLine<'a>>,
    steps: Vec<StepLine<'a>>,
    passes: &'a [PassReport],
}

#[derive(Serialize)]
struct WeightLine<'a> {
    name: &'a str,
    desc: String,
    form: WeightForm,
    bytes: u64,
    device: &'a str,
}

#[derive(Serialize)]
struct StepLine<'a> {
    node: &'a str,
    op: &'static str,
    device: &'a str,
    #[serde(flatten)]
    route: &'a Route,
    outputs: Vec<OutputLine>,
}

#[derive(Serialize)]
struct OutputLine {
    desc: String,
    place: Place,
}

impl Plan {
    fn explanation(&self) -> Explanation<'_> {
        let cost = self.cost();
        let device = |i: crate::DeviceIdx| self.devices.get(i.index()).map_or("", String::as_str);
        let weights = self.weights.iter().map(|w| WeightLine {
            name: &w.name,
            desc: w.desc.to_string(),
            form: w.form,
            bytes: w.bytes,
            device: device(w.device),
        });
        let steps = self.steps.iter().map(|s| {
            let node = self.graph.node(s.node);
            let outputs = node.outputs.iter();
            StepLine {
                node: &node.name,
                op: node.op.spec().stem(),
                device: device(s.device),
                route: &s.route,
                outputs: outputs
                    .map(|v| OutputLine {
                        desc: self.graph.desc(*v).to_string(),
                        place: self.place(*v),
                    })
                    .collect(),
            }
        });
        Explanation {
            precision: self.precision.name(),
            devices: &self.devices,
            arena_bytes: &self.arenas,
            weight_bytes: self.weights.iter().map(|w| w.bytes).sum(),
            state_bytes: self.states.iter().map(|s| s.bytes).sum(),
            flops: cost.flops,
            bytes: cost.bytes,
            weights: weights.collect(),
            steps: steps.collect(),
            passes: &self.passes,
        }
    }

    /// The plan as a table: totals, weights that changed form, every step with its kernel and reason, passes.
    pub fn explain(&self) -> String {
        let e = self.explanation();
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "precision {}, devices {}",
            e.precision,
            e.devices.join(", ")
        );
        let _ = writeln!(
            out,
            "bytes: weights {}, states {}, arena {:?}; one run: {:.4e} FLOP, {:.4e} bytes",
            e.weight_bytes, e.state_bytes, e.arena_bytes, e.flops, e.bytes
        );
        for w in e.weights.iter().filter(|w| w.form != WeightForm::Native) {
            let _ = writeln!(
                out,
                "weight {} {} kept {} ({} bytes)",
                w.name,
                w.desc,
                w.form.name(),
                w.bytes
            );
        }
        for (i, s) in e.steps.iter().enumerate() {
            let outputs: Vec<String> = s
                .outputs
                .iter()
                .map(|o| format!("{} @ {:?}+{}", o.desc, o.place.region, o.place.offset))
                .collect();
            let _ = writeln!(
                out,
                "{i:4} {} {} on {}: {} ({}) -> {}",
                s.op,
                s.node,
                s.device,
                s.route.kernel,
                s.route.reason,
                outputs.join(", ")
            );
        }
        for p in e.passes {
            let _ = writeln!(out, "pass {p}");
        }
        out
    }

    /// The same as JSON.
    pub fn explain_json(&self) -> serde_json::Value {
        // Plain structs of strings and numbers always serialise.
        serde_json::to_value(self.explanation()).unwrap_or_default()
    }
}
