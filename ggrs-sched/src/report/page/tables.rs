//! The page's tables: decisions, what moves, ops, weights.

use std::fmt::Write as _;

use super::super::data::{PlanReport, StepReport};
use super::super::units::{bytes, float_bytes, flops, shape};
use super::escape::escape;
use super::lanes::Lanes;

/// Decisions with their reasons.
pub(super) fn notes(report: &PlanReport) -> String {
    let notes = report.notes.iter().map(|n| {
        format!(
            "<li class=\"{kind}\"><b>{kind}</b><span><code>{}</code> {}</span></li>",
            escape(&n.subject),
            escape(&n.text),
            kind = n.kind.name()
        )
    });
    let notes: String = notes.collect();
    if notes.is_empty() {
        return "<p class=\"empty\">Nothing had to be decided: everything is where the defaults put it.</p>".to_owned();
    }
    format!("<ul class=\"notes\">{notes}</ul>")
}

/// A table with a head.
fn table(class: &str, head: &[&str], rows: &str) -> String {
    let head: String = head
        .iter()
        .map(|h| format!("<th scope=\"col\">{h}</th>"))
        .collect();
    format!(
        "<div class=\"scroll\"><table class=\"list {class}\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

/// A device's name with its colour, or its members' colours.
fn device(report: &PlanReport, lanes: &Lanes, i: usize) -> String {
    let dots = report.members_of(i).into_iter();
    let dots: String = dots
        .map(|d| format!("<i class=\"dot\" style=\"{}\"></i>", lanes.colour(d)))
        .collect();
    format!(
        "<span class=\"on\">{dots}{}</span>",
        escape(report.device_name(i))
    )
}

/// The exchanges of a step.
pub(super) fn exchanges(report: &PlanReport, step: &StepReport, lanes: &Lanes) -> String {
    let mut copies = String::new();
    for c in step.copies() {
        let from = c
            .from
            .map_or_else(|| "the file".to_owned(), |d| device(report, lanes, d));
        // Writing to a String cannot fail.
        let _ = writeln!(
            copies,
            "<tr><td>{}<td><code>{}</code><td>{from}<td>{}<td>{} {}<td class=\"n\">{}<td>{}",
            escape(&c.layer),
            escape(&c.value),
            device(report, lanes, c.to),
            escape(&c.dtype),
            shape(&c.shape),
            bytes(c.bytes),
            escape(&c.why)
        );
    }
    let mut collectives = String::new();
    for c in step.collectives() {
        let members = c.members.iter();
        let members: String = members
            .map(|d| {
                format!(
                    "<i class=\"dot\" style=\"{}\" title=\"{}\"></i>",
                    lanes.colour(*d),
                    escape(report.device_name(*d))
                )
            })
            .collect();
        let _ = writeln!(
            collectives,
            "<tr><td>{}<td>{}<td><code>{}</code><td>{members}<td>{} {}<td class=\"n\">{}<td class=\"n\">{}<td>{}<td>{}<td>{}",
            escape(&c.layer),
            escape(&c.kind),
            escape(&c.node),
            escape(&c.dtype),
            shape(&c.shape),
            bytes(c.bytes),
            bytes(c.wire_bytes),
            escape(&c.wire_dtype),
            escape(&c.transport),
            escape(&c.why)
        );
    }
    let mut out = String::new();
    if !collectives.is_empty() {
        let head = [
            "layer",
            "kind",
            "node",
            "members",
            "value",
            "bytes",
            "on the wire",
            "as",
            "by",
            "why",
        ];
        out += &format!(
            "<h3>Collectives</h3>{}",
            table("collectives", &head, &collectives)
        );
    }
    if !copies.is_empty() {
        let head = ["layer", "value", "from", "to", "what", "bytes", "why"];
        out += &format!("<h3>Copies</h3>{}", table("copies", &head, &copies));
    }
    if out.is_empty() {
        out += "<p class=\"empty\">Nothing moves between devices.</p>";
    }
    out
}

/// The ops of a step.
pub(super) fn ops(report: &PlanReport, step: &StepReport, lanes: &Lanes) -> String {
    let mut rows = String::new();
    for op in &step.ops {
        let _ = writeln!(
            rows,
            "<tr><td class=\"n\">{}<td>{}<td>{}<td>{}<td><code>{}</code><td><code>{}</code><td class=\"n\">{}<td class=\"n\">{}<td>{}",
            op.index,
            escape(&op.layer),
            device(report, lanes, op.device),
            escape(&op.op),
            escape(&op.node),
            escape(&op.kernel),
            flops(op.flops),
            float_bytes(op.bytes),
            escape(&op.reason)
        );
    }
    let head = [
        "#",
        "layer",
        "device",
        "op",
        "node",
        "kernel",
        "compute",
        "bytes",
        "why this kernel",
    ];
    table("ops", &head, &rows)
}

/// All weights.
pub(super) fn weights(report: &PlanReport, lanes: &Lanes) -> String {
    let mut rows = String::new();
    for w in &report.weights {
        let _ = writeln!(
            rows,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{}<td>{}<td class=\"n\">{}<td>{}",
            escape(&w.name),
            escape(&w.dtype),
            shape(&w.shape),
            device(report, lanes, w.device),
            escape(&w.form),
            bytes(w.bytes),
            escape(&w.split)
        );
    }
    let head = [
        "name",
        "dtype",
        "shape",
        "device",
        "form",
        "bytes",
        "how it is cut",
    ];
    table("weights", &head, &rows)
}
