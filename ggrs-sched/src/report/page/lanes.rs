//! What moves between devices, drawn: a lane for each device, time downwards, layer by layer beside the grid.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::super::data::{CollectiveReport, CopyReport, Exchange, PlanReport, StepReport};
use super::super::units::{bytes, shape};
use super::escape::escape;

/// Colours that the style has.
const COLOURS: usize = 8;
/// Height of the head, as the grid's.
const HEAD: usize = 38;
/// Height of a row without exchanges, as the grid's.
const ROW: usize = 22;
/// Height of an exchange.
const PITCH: usize = 12;
/// Width of the layers' names, and of the sums at the right.
const NAMES: usize = 60;
const SUMS: usize = 76;

/// The lane of every device that is not made of others.
pub(super) struct Lanes {
    lane: HashMap<usize, usize>,
    /// Does anything come from the model's file? It has the first lane then.
    has_file: bool,
    /// Between two lanes.
    pitch: usize,
}

/// For each layer the height of its row: the same for every step, so that rows stand beside those of the grid.
pub(super) fn row_heights(report: &PlanReport) -> Vec<usize> {
    let height = |layer: &str| {
        let events = |s: &StepReport| s.exchanges.iter().filter(|e| e.layer() == layer).count();
        let most = report.steps.iter().map(events).max().unwrap_or(0);
        ROW.max(most * PITCH + 6)
    };
    report.layers.iter().map(|l| height(&l.name)).collect()
}

impl Lanes {
    pub(super) fn of(report: &PlanReport) -> Self {
        let lanes = report.single_devices().enumerate();
        let lane: HashMap<usize, usize> = lanes.map(|(lane, (device, _))| (device, lane)).collect();
        let copies = report.steps.iter().flat_map(StepReport::copies);
        Self {
            has_file: copies.into_iter().any(|c| c.from.is_none()),
            pitch: if lane.len() > 6 { 50 } else { 62 },
            lane,
        }
    }

    /// A device's colour, as a style.
    pub(super) fn colour(&self, device: usize) -> String {
        match self.lane.get(&device) {
            Some(lane) => format!("--c:var(--d{})", lane % COLOURS),
            None => "--c:var(--ink)".to_owned(),
        }
    }

    /// The middle of a lane; `None` for the model's file.
    fn x(&self, device: Option<usize>) -> usize {
        let first = usize::from(self.has_file);
        let lane = device.map_or(0, |d| first + self.lane.get(&d).copied().unwrap_or(0));
        NAMES + self.pitch / 2 + lane * self.pitch
    }

    /// The drawing of one step.
    pub(super) fn draw(&self, report: &PlanReport, step: &StepReport, heights: &[usize]) -> String {
        let lanes = self.lane.len() + usize::from(self.has_file);
        let right = NAMES + lanes * self.pitch;
        let (width, height) = (right + SUMS, HEAD + heights.iter().sum::<usize>());
        let mut out = format!(
            "<svg class=\"lanes\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"What moves between devices\">"
        );
        // Writing to a String cannot fail.
        let _ = self.draw_lanes(&mut out, report, height);
        let mut y = HEAD;
        for (layer, row) in report.layers.iter().zip(heights) {
            let events = step.exchanges.iter().filter(|e| e.layer() == layer.name);
            let events: Vec<&Exchange> = events.collect();
            let _ = writeln!(
                out,
                "<path class=\"rule\" d=\"M0 {y}H{width}\"/><text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
                NAMES - 14,
                y + row / 2 + 4,
                escape(&layer.name)
            );
            let first = y + (row - events.len() * PITCH) / 2 + PITCH / 2;
            for (i, event) in events.iter().enumerate() {
                let at = first + i * PITCH;
                let _ = match event {
                    Exchange::Copy(copy) => self.draw_copy(&mut out, report, copy, at),
                    Exchange::Collective(c) => self.draw_collective(&mut out, report, c, at),
                };
            }
            let moved = events.iter().map(|e| match e {
                Exchange::Copy(c) => c.bytes,
                Exchange::Collective(c) => c.wire_bytes,
            });
            let moved: u64 = moved.fold(0, u64::saturating_add);
            if moved > 0 {
                let _ = writeln!(
                    out,
                    "<text class=\"sum\" x=\"{}\" y=\"{}\">{}</text>",
                    width - 4,
                    y + row / 2 + 4,
                    bytes(moved)
                );
            }
            y += row;
        }
        out + "</svg>"
    }

    fn draw_lanes(&self, out: &mut String, report: &PlanReport, height: usize) -> std::fmt::Result {
        let lane = |out: &mut String, device: Option<usize>, name: &str, colour: &str| {
            let x = self.x(device);
            writeln!(
                out,
                "<g style=\"{colour}\"><title>{}</title><text class=\"device\" x=\"{x}\" y=\"16\">{}</text><path class=\"lane\" d=\"M{x} 24V{height}\"/></g>",
                escape(name),
                escape(&shortened(name, self.pitch / 7))
            )
        };
        if self.has_file {
            lane(out, None, "file", "--c:var(--muted)")?;
        }
        for (i, device) in report.single_devices() {
            lane(out, Some(i), &device.name, &self.colour(i))?;
        }
        Ok(())
    }

    fn draw_copy(
        &self,
        out: &mut String,
        report: &PlanReport,
        copy: &CopyReport,
        y: usize,
    ) -> std::fmt::Result {
        let ends = |device: usize| -> Vec<usize> {
            let members = report.members_of(device);
            members.into_iter().map(|m| self.x(Some(m))).collect()
        };
        let from = copy.from.map_or_else(|| vec![self.x(None)], ends);
        let to = ends(copy.to);
        // The arrow goes between the two nearest lanes; on a device made of several it stands for all members.
        let pairs = from
            .iter()
            .flat_map(|a| to.iter().map(move |b| (a.abs_diff(*b), *a, *b)));
        let Some((_, a, b)) = pairs.min() else {
            return Ok(());
        };
        let colour = match copy.from {
            Some(device) => {
                self.colour(report.members_of(device).first().copied().unwrap_or(device))
            }
            None => "--c:var(--muted)".to_owned(),
        };
        let (tip, back) = if a < b {
            (b - 3, b - 10)
        } else {
            (b + 3, b + 10)
        };
        writeln!(
            out,
            "<g class=\"event copy\" data-copy style=\"{colour}\"><title>{}</title>{}{}<path class=\"line\" d=\"M{a} {y}H{back}\"/><circle cx=\"{a}\" cy=\"{y}\" r=\"2.5\"/><path class=\"tip\" d=\"M{tip} {y}L{back} {}V{}Z\"/></g>",
            copy_title(report, copy),
            span(&from, y),
            span(&to, y),
            y - 4,
            y + 4
        )
    }

    fn draw_collective(
        &self,
        out: &mut String,
        report: &PlanReport,
        collective: &CollectiveReport,
        y: usize,
    ) -> std::fmt::Result {
        let xs: BTreeSet<usize> = collective
            .members
            .iter()
            .map(|m| self.x(Some(*m)))
            .collect();
        let (Some(first), Some(last)) = (xs.first(), xs.last()) else {
            return Ok(());
        };
        write!(
            out,
            "<g class=\"event collective {}\" data-collective><title>{}</title><path class=\"line\" d=\"M{first} {y}H{last}\"/>",
            class(&collective.kind),
            collective_title(report, collective)
        )?;
        for x in &xs {
            write!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>")?;
        }
        writeln!(out, "</g>")
    }
}

/// A thin line over all lanes of a device made of several.
fn span(xs: &[usize], y: usize) -> String {
    match (xs.iter().min(), xs.iter().max()) {
        (Some(a), Some(b)) if a < b => {
            let dots: String = xs
                .iter()
                .map(|x| format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"2\"/>"))
                .collect();
            format!("<path class=\"span\" d=\"M{a} {y}H{b}\"/>{dots}")
        }
        _ => String::new(),
    }
}

fn copy_title(report: &PlanReport, copy: &CopyReport) -> String {
    let from = copy
        .from
        .map_or("the model's file", |d| report.device_name(d));
    format!(
        "copy of {}&#10;{} to {}&#10;{} {}, {}&#10;{}",
        escape(&copy.value),
        escape(from),
        escape(report.device_name(copy.to)),
        escape(&copy.dtype),
        shape(&copy.shape),
        bytes(copy.bytes),
        escape(&copy.why)
    )
}

fn collective_title(report: &PlanReport, c: &CollectiveReport) -> String {
    let members = c.members.iter().map(|m| escape(report.device_name(*m)));
    format!(
        "{} {}&#10;{}&#10;{} {}, {}; on the wire {} as {}, by {}&#10;{}",
        escape(&c.kind),
        escape(&c.node),
        members.collect::<Vec<_>>().join(", "),
        escape(&c.dtype),
        shape(&c.shape),
        bytes(c.bytes),
        bytes(c.wire_bytes),
        escape(&c.wire_dtype),
        escape(&c.transport),
        escape(&c.why)
    )
}

/// The style's class of a kind of collective.
fn class(kind: &str) -> &'static str {
    match kind {
        "all_reduce" => "all-reduce",
        "all_gather" => "all-gather",
        "reduce_scatter" => "reduce-scatter",
        _ => "",
    }
}

/// What the signs of a step's drawing mean.
pub(super) fn legend(step: &StepReport) -> String {
    let mut out = String::new();
    let kinds: BTreeSet<&str> = step.collectives().map(|c| &*c.kind).collect();
    for kind in kinds {
        out += &format!(
            "<span><svg width=\"34\" height=\"10\" class=\"lanes\"><g class=\"collective {}\"><path class=\"line\" d=\"M5 5H29\"/><circle cx=\"5\" cy=\"5\" r=\"3.5\"/><circle cx=\"29\" cy=\"5\" r=\"3.5\"/></g></svg>{}</span>",
            class(kind),
            escape(&kind.replace('_', "-"))
        );
    }
    if step.totals.n_copies > 0 {
        out += "<span><svg width=\"34\" height=\"10\" class=\"lanes\"><g class=\"copy\"><path class=\"line\" d=\"M5 5H22\"/><circle cx=\"5\" cy=\"5\" r=\"2.5\"/><path class=\"tip\" d=\"M29 5L22 1V9Z\"/></g></svg>copy</span>";
    }
    if out.is_empty() {
        out += "<span>nothing moves between devices</span>";
    }
    out
}

/// The beginning of a name.
fn shortened(name: &str, n_chars: usize) -> String {
    if name.chars().count() <= n_chars {
        return name.to_owned();
    }
    let mut out: String = name.chars().take(n_chars.saturating_sub(1)).collect();
    out.push('…');
    out
}
