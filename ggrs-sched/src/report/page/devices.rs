//! Each device with its memory as a bar, and the legend of their colours.

use super::super::data::{DeviceReport, PlanReport};
use super::super::units::{bytes, signed_bytes};
use super::escape::escape;
use super::lanes::Lanes;

/// A card for each device; the members of one stand together.
pub(super) fn cards(report: &PlanReport, lanes: &Lanes) -> String {
    let mut out = String::new();
    let in_group = |i: usize| report.devices.iter().any(|d| d.members.contains(&i));
    for (i, device) in report.devices.iter().enumerate() {
        if !device.members.is_empty() {
            let members = device.members.iter();
            let cards: String = members
                .filter_map(|m| Some(card(report, lanes, *m, report.devices.get(*m)?)))
                .collect();
            out += &format!(
                "<div class=\"group\"><h3>One device of {} members</h3><div class=\"cards\">{cards}</div></div>",
                device.members.len()
            );
        } else if !in_group(i) {
            out += &card(report, lanes, i, device);
        }
    }
    out
}

fn card(report: &PlanReport, lanes: &Lanes, i: usize, device: &DeviceReport) -> String {
    let b = &device.bytes;
    let compute = b.compute.saturating_add(b.constants);
    let ours = b.total();
    let free = device.free_bytes.unwrap_or(ours);
    let total = device.total_bytes.unwrap_or(ours).max(ours).max(1);
    let shared = device.shares_memory_with.iter();
    let neighbours = shared
        .filter_map(|d| Some(report.devices.get(*d)?.bytes.total()))
        .fold(0u64, u64::saturating_add);
    let others = total.saturating_sub(free);
    let rest = free.saturating_sub(ours);
    // What is missing reaches past the end of the memory.
    let drawn = total.max(ours.saturating_add(others));
    let neighbours_shown = neighbours.min(rest);
    let parts = [
        ("weights", "weights", b.weights),
        ("kv", "KV and states", b.states),
        ("compute", "compute", compute),
        ("near", "other devices in the same memory", neighbours_shown),
        ("others", "used by other programs", others),
        ("free", "left", rest - neighbours_shown),
    ];
    let mut bar: String = parts
        .iter()
        .map(|(class, what, n)| segment(class, what, *n, drawn))
        .collect();
    if drawn > total {
        let limit = percent(total, drawn);
        bar += &format!(
            "<b style=\"left:{limit:.3}%\" title=\"all there is: {}\"></b>",
            bytes(total)
        );
    }
    let numbers: String = [
        ("weights", "weights", b.weights),
        ("kv", "KV", b.states),
        ("compute", "compute", compute),
    ]
    .iter()
    .map(|(class, what, n)| {
        format!(
            "<div><dt><i class=\"{class}\"></i>{what}</dt><dd>{}</dd></div>",
            bytes(*n)
        )
    })
    .collect();
    let (margin_class, margin) = match device.margin_bytes {
        Some(margin) if margin < 0 => {
            ("short", format!("{} missing", bytes(margin.unsigned_abs())))
        }
        Some(margin) => ("", format!("{} left", signed_bytes(margin))),
        None => ("", String::new()),
    };
    let memory = match (device.free_bytes, device.total_bytes) {
        (Some(free), Some(total)) => format!("{} free of {}", bytes(free), bytes(total)),
        _ => String::new(),
    };
    format!(
        "<article class=\"device\" data-device=\"{i}\" style=\"{}\"><header><h4><i></i>{}</h4><b class=\"margin {margin_class}\">{margin}</b></header>\
         <p title=\"{hardware}, {features}\">{hardware} · {features}</p><div class=\"memory\">{bar}</div><dl>{numbers}</dl><p class=\"of\">{memory}{}</p></article>",
        lanes.colour(i),
        escape(&device.name),
        sharing(report, device),
        hardware = escape(&device.hardware),
        features = escape(&device.features),
    )
}

fn sharing(report: &PlanReport, device: &DeviceReport) -> String {
    let with = device.shares_memory_with.iter();
    let names: Vec<String> = with.map(|d| escape(report.device_name(*d))).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(", one memory with {}", names.join(", "))
}

fn segment(class: &str, what: &str, n: u64, total: u64) -> String {
    if n == 0 {
        return String::new();
    }
    format!(
        "<i class=\"{class}\" style=\"width:{:.3}%\" title=\"{what}: {}\"></i>",
        percent(n, total),
        bytes(n)
    )
}

#[allow(clippy::cast_precision_loss, reason = "drawn, not counted")]
fn percent(n: u64, total: u64) -> f64 {
    100.0 * n as f64 / total.max(1) as f64
}

/// Each device's colour with its name.
pub(super) fn legend(report: &PlanReport, lanes: &Lanes) -> String {
    let devices = report.single_devices().map(|(i, d)| {
        format!(
            "<span style=\"{}\"><i class=\"dot\"></i>{}</span>",
            lanes.colour(i),
            escape(&d.name)
        )
    });
    devices.collect()
}
