//! The placement as a grid: layers down, roles across, each cell in the colours of the devices that hold it.

use super::super::data::{Arrangement, CellReport, LayerReport, PlanReport};
use super::super::units::{bytes, count};
use super::escape::escape;
use super::lanes::Lanes;

/// Roles that are found outside the layers only; they share a column.
const VOCABULARY: [&str; 2] = ["embedding", "output"];
const VOCABULARY_COLUMN: &str = "vocabulary";

fn column(role: &str) -> &str {
    if VOCABULARY.contains(&role) {
        VOCABULARY_COLUMN
    } else {
        role
    }
}

/// The grid as a table; rows are as high as `heights` says, in pixels.
pub(super) fn table(report: &PlanReport, lanes: &Lanes, heights: &[usize]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for cell in report.layers.iter().flat_map(|l| &l.cells) {
        let column = column(&cell.role);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let head: String = columns
        .iter()
        .map(|c| format!("<th scope=\"col\">{}</th>", escape(c)))
        .collect();
    let rows = report.layers.iter().zip(heights).map(|(layer, height)| {
        let cells: String = columns.iter().map(|c| cell(report, lanes, layer, c)).collect();
        let name = escape(&layer.name);
        format!(
            "<tr class=\"layer\" data-layer=\"{name}\" style=\"height:{height}px\"><th scope=\"row\">{name}</th>{cells}</tr>"
        )
    });
    let rows: String = rows.collect();
    format!(
        "<table class=\"grid\"><thead><tr><th scope=\"col\">layer</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn cell(report: &PlanReport, lanes: &Lanes, layer: &LayerReport, wanted: &str) -> String {
    let cells = layer.cells.iter().filter(|c| column(&c.role) == wanted);
    let bars: String = cells.map(|c| bar(report, lanes, layer, c)).collect();
    format!("<td>{bars}</td>")
}

fn bar(report: &PlanReport, lanes: &Lanes, layer: &LayerReport, cell: &CellReport) -> String {
    let (class, how) = match cell.arrangement {
        Arrangement::Whole => ("whole", "whole"),
        Arrangement::Split => ("split", "cut"),
        Arrangement::Replicated => ("replicated", "whole on each"),
        Arrangement::Mixed => ("split mixed", "some whole, some cut or elsewhere"),
    };
    let mut title = format!(
        "{} of {}: {}, {how}",
        escape(&cell.role),
        layer_title(&layer.name),
        count(cell.n_tensors, "tensor", "tensors")
    );
    for part in &cell.parts {
        title += &format!(
            "&#10;{}: {}",
            escape(report.device_name(part.device)),
            bytes(part.bytes)
        );
    }
    if !cell.kernels.is_empty() {
        title += &format!("&#10;read by {}", escape(&cell.kernels.join(", ")));
    }
    let parts = cell.parts.iter().filter(|p| p.bytes > 0).map(|part| {
        let share = match cell.arrangement {
            Arrangement::Replicated => 1,
            _ => part.bytes,
        };
        format!(
            "<i style=\"{};flex-grow:{share}\"></i>",
            lanes.colour(part.device)
        )
    });
    let parts: String = parts.collect();
    format!("<div class=\"cell {class}\" title=\"{title}\">{parts}</div>")
}

fn layer_title(name: &str) -> String {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        format!("layer {name}")
    } else {
        format!("the {}", escape(name))
    }
}
