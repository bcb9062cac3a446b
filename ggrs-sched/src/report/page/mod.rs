//! The report as one self-contained page: a template, a style and a script of its own, filled with the report's data.
//! The page asks nobody for anything; every name in it is escaped.

mod devices;
mod escape;
mod grid;
mod lanes;
mod tables;

use super::data::{PlanReport, StepReport};
use super::units::{bytes, count, flops};
use escape::escape;
use lanes::Lanes;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl PlanReport {
    /// The report as an HTML page.
    pub fn to_html(&self) -> String {
        let lanes = Lanes::of(self);
        let heights = lanes::row_heights(self);
        let each_step = |draw: &dyn Fn(&StepReport) -> String| -> String {
            let steps = self.steps.iter().enumerate();
            steps.map(|(i, step)| of_step(i, &draw(step))).collect()
        };
        let context = format!(
            "{} · precision {} · context of {}, {} keys and values",
            escape(&self.split),
            escape(&self.precision),
            count(self.context.n_ctx, "token", "tokens"),
            escape(&self.context.kv_dtype)
        );
        fill(
            TEMPLATE,
            &[
                ("style", STYLE),
                ("script", SCRIPT),
                ("name", &escape(&self.model.name)),
                ("arch", &escape(&self.model.arch)),
                ("file", &escape(&self.model.file)),
                ("context", &context),
                ("switch", &self.switch()),
                ("fixed_tiles", &self.fixed_tiles()),
                ("step_tiles", &each_step(&step_tiles)),
                ("devices", &devices::cards(self, &lanes)),
                ("grid", &grid::table(self, &lanes, &heights)),
                ("device_legend", &devices::legend(self, &lanes)),
                ("lanes", &each_step(&|s| lanes.draw(self, s, &heights))),
                ("lanes_legend", &each_step(&lanes::legend)),
                ("notes", &tables::notes(self)),
                (
                    "exchanges",
                    &each_step(&|s| tables::exchanges(self, s, &lanes)),
                ),
                ("ops", &each_step(&|s| tables::ops(self, s, &lanes))),
                ("weights", &tables::weights(self, &lanes)),
            ],
        )
    }

    /// Buttons that choose the step; nothing to choose with one.
    fn switch(&self) -> String {
        if self.steps.len() < 2 {
            return self
                .steps
                .first()
                .map(|s| escape(&s.name))
                .unwrap_or_default();
        }
        let buttons = self.steps.iter().enumerate().map(|(i, step)| {
            let pressed = i == 0;
            let name = escape(&step.name);
            format!("<button type=\"button\" data-step=\"{i}\" aria-pressed=\"{pressed}\">{name}</button>")
        });
        buttons.collect()
    }

    /// What does not depend on the step.
    fn fixed_tiles(&self) -> String {
        let single = || self.single_devices().map(|(_, d)| d);
        let weights = single().fold(0u64, |n, d| n.saturating_add(d.bytes.weights));
        let states = single().fold(0u64, |n, d| n.saturating_add(d.bytes.states));
        let tightest = single().filter_map(|d| Some((d.margin_bytes?, d)));
        let tightest = tightest.min_by_key(|(margin, _)| *margin);
        let mut tiles = tile(
            "tile",
            &bytes(weights),
            "weights",
            &format!(
                "{} on {}",
                count(self.weights.len(), "tensor", "tensors"),
                count(single().count(), "device", "devices")
            ),
        );
        tiles += &tile(
            "tile",
            &bytes(states),
            "KV and states",
            &format!(
                "{} of context",
                count(self.context.n_ctx, "token", "tokens")
            ),
        );
        if let Some((margin, device)) = tightest {
            let (class, what) = if margin < 0 {
                ("tile short", "missing")
            } else {
                ("tile", "smallest margin")
            };
            let on = format!("on {}", escape(&device.name));
            tiles += &tile(class, &bytes(margin.unsigned_abs()), what, &on);
        }
        tiles
    }
}

fn step_tiles(step: &StepReport) -> String {
    let totals = &step.totals;
    let per_token = |n: u64| {
        let tokens = step.n_tokens.max(1) as u64;
        format!("{} per token", bytes(n / tokens))
    };
    let mut tiles = tile(
        "tile",
        &totals.n_collectives.to_string(),
        if totals.n_collectives == 1 {
            "collective"
        } else {
            "collectives"
        },
        &format!("{} on the wire", per_token(totals.wire_bytes)),
    );
    tiles += &tile(
        "tile",
        &totals.n_copies.to_string(),
        if totals.n_copies == 1 {
            "copy"
        } else {
            "copies"
        },
        &per_token(totals.copy_bytes),
    );
    tiles += &tile(
        "tile",
        &flops(totals.flops),
        &count(step.ops.len(), "op", "ops"),
        &format!(
            "{} read and written",
            super::units::float_bytes(totals.bytes)
        ),
    );
    tiles
}

fn tile(class: &str, value: &str, label: &str, more: &str) -> String {
    format!("<div class=\"{class}\"><b>{value}</b><span>{label}</span><small>{more}</small></div>")
}

/// Something that belongs to one step: only the chosen step's is shown.
fn of_step(step: usize, content: &str) -> String {
    let hidden = if step == 0 { "" } else { " hidden" };
    format!("<div class=\"of-step\" data-of-step=\"{step}\"{hidden}>{content}</div>")
}

/// Puts values in the places that the template names between double braces. Values are not looked at again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut pieces = template.split("{{");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or(("", piece));
        let value = values.iter().find(|(n, _)| *n == name);
        debug_assert!(value.is_some(), "the page has no value for {name}");
        out.push_str(value.map_or("", |(_, v)| v));
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_once() {
        let page = fill("<{{a}}|{{b}}>", &[("a", "{{b}}"), ("b", "x")]);
        assert_eq!(page, "<{{b}}|x>");
    }
}
