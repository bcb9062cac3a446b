//! From planned steps to a report. It knows plans and facts about devices; it opens none and must not know how a
//! report is shown.

use ggrs_core::device::{DeviceInfo, DeviceName};
use ggrs_core::plan::Plan;

use super::data::{
    ContextReport, DeviceBytesReport, DeviceReport, ModelReport, NoteKind, NoteReport, PlanReport,
    VERSION,
};
use super::placed::{Roles, placed};
use super::{traffic, units};
use crate::placement::Home;
use crate::plan::{PlanPart, SchedPlan};

/// What a report says that stands in no plan.
#[derive(Clone, Debug)]
pub struct ReportFacts {
    /// The model.
    pub model: ModelReport,
    /// What a session remembers.
    pub context: ContextReport,
    /// How the model is spread over the devices, in words.
    pub split: String,
    /// The devices of the placement, in its order.
    pub devices: Vec<DeviceFacts>,
}

/// A device of a placement.
#[derive(Clone, Debug)]
pub struct DeviceFacts {
    /// What it is.
    pub info: DeviceInfo,
    /// Its members, if it is made of several.
    pub members: Vec<DeviceInfo>,
}

/// A step of the model with its plan.
#[derive(Clone, Debug)]
pub struct PlannedStep<'a> {
    /// `decode of 1 token`.
    pub name: String,
    /// Tokens in it.
    pub n_tokens: usize,
    /// Its plan.
    pub plan: &'a SchedPlan,
}

/// The report of a placement's plans; the first step stands for what the placement decided.
pub fn report_of(facts: ReportFacts, steps: &[PlannedStep<'_>]) -> PlanReport {
    let rows = Rows::of(&facts.devices);
    let roles = Roles::of(steps);
    let (layers, weights) = placed(steps, &rows, &roles);
    let mut devices = device_reports(&facts.devices);
    add_bytes(&mut devices, steps, &rows);
    add_margins(&mut devices, &facts.devices);
    let mut notes = warnings(&devices);
    if let Some(first) = steps.first() {
        notes.extend(home_notes(&first.plan.homes, &first.plan.devices));
        let passes = first.plan.passes.iter();
        notes.extend(
            passes
                .filter(|p| p.applied > 0 || !p.rejected.is_empty())
                .map(|p| {
                    let text = p.to_string();
                    let said = text.strip_prefix(p.pass).and_then(|t| t.strip_prefix(": "));
                    NoteReport {
                        kind: NoteKind::Pass,
                        subject: p.pass.to_owned(),
                        text: said.unwrap_or(&text).to_owned(),
                    }
                }),
        );
    }
    for (node, why) in steps.iter().flat_map(|s| &s.plan.notes) {
        let note = NoteReport {
            kind: NoteKind::Fallback,
            subject: node.clone(),
            text: why.clone(),
        };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let precision = steps.first().and_then(|s| s.plan.parts.first());
    PlanReport {
        version: VERSION,
        model: facts.model,
        precision: precision.map_or("", |p| p.plan.precision.name()).to_owned(),
        context: facts.context,
        split: facts.split,
        devices,
        layers,
        weights,
        steps: steps
            .iter()
            .map(|s| traffic::step(s, &rows, &roles))
            .collect(),
        notes,
    }
}

/// Where devices stand in the report's list: each of the placement, followed by its members.
pub(super) struct Rows {
    first: Vec<usize>,
}

/// A program of one device.
pub(super) struct Program<'a> {
    pub(super) row: usize,
    pub(super) plan: &'a Plan,
}

impl Rows {
    fn of(devices: &[DeviceFacts]) -> Self {
        let mut next = 0;
        let first = devices.iter().map(|d| {
            let row = next;
            next += 1 + d.members.len();
            row
        });
        Self {
            first: first.collect(),
        }
    }

    /// The row of a device of the placement.
    pub(super) fn row(&self, device: usize) -> usize {
        self.first.get(device).copied().unwrap_or(device)
    }

    /// What runs on the part's device, or on each of its members.
    pub(super) fn programs<'a>(&self, part: &'a PlanPart) -> Vec<Program<'a>> {
        let row = self.row(part.device);
        let plan = &*part.plan;
        if plan.members.is_empty() {
            return vec![Program { row, plan }];
        }
        let members = plan.members.iter().enumerate();
        let members = members.map(|(i, plan)| Program {
            row: row + 1 + i,
            plan,
        });
        members.collect()
    }
}

fn device_reports(devices: &[DeviceFacts]) -> Vec<DeviceReport> {
    let mut reports = Vec::new();
    let report = |info: &DeviceInfo, name: String| DeviceReport {
        name,
        hardware: info.hardware.clone(),
        features: info.features.clone(),
        ..DeviceReport::default()
    };
    let single = |info: &DeviceInfo| DeviceReport {
        total_bytes: Some(info.memory.total),
        free_bytes: Some(info.memory.free),
        ..report(info, info.name.to_string())
    };
    for device in devices {
        if device.members.is_empty() {
            reports.push(single(&device.info));
            continue;
        }
        let names = device.members.iter().map(|m| m.name.to_string());
        let first = reports.len() + 1;
        reports.push(DeviceReport {
            members: (first..first + device.members.len()).collect(),
            ..report(&device.info, names.collect::<Vec<_>>().join("+"))
        });
        reports.extend(device.members.iter().map(single));
    }
    reports
}

/// Adds what the plans take. Weights and states are the same in every step; each step has its own working memory.
fn add_bytes(devices: &mut [DeviceReport], steps: &[PlannedStep<'_>], rows: &Rows) {
    for step in steps {
        for program in step.plan.parts.iter().flat_map(|p| rows.programs(p)) {
            let Some(device) = devices.get_mut(program.row) else {
                continue;
            };
            for own in program.plan.device_bytes() {
                device.bytes.weights = device.bytes.weights.max(own.weights);
                device.bytes.states = device.bytes.states.max(own.states);
                device.bytes.compute += own.arena;
                device.bytes.constants += own.constants;
            }
        }
    }
    for i in 0..devices.len() {
        let mut sum = DeviceBytesReport::default();
        let members = devices
            .get(i)
            .map(|d| d.members.clone())
            .unwrap_or_default();
        for member in members.iter().filter_map(|m| devices.get(*m)) {
            sum.add(&member.bytes);
        }
        if let (false, Some(device)) = (members.is_empty(), devices.get_mut(i)) {
            device.bytes = sum;
        }
    }
}

/// The memory that a device lives in: members of one device share it.
fn memory_of(name: &DeviceName) -> (&str, usize) {
    (&name.backend, if name.members > 1 { 0 } else { name.index })
}

fn add_margins(devices: &mut [DeviceReport], facts: &[DeviceFacts]) {
    let mut memories: Vec<Option<(&str, usize)>> = Vec::new();
    for device in facts {
        if device.members.is_empty() {
            memories.push(Some(memory_of(&device.info.name)));
        } else {
            memories.push(None);
            memories.extend(device.members.iter().map(|m| Some(memory_of(&m.name))));
        }
    }
    let taken: Vec<u64> = devices.iter().map(|d| d.bytes.total()).collect();
    for (i, device) in devices.iter_mut().enumerate() {
        let Some(Some(own)) = memories.get(i) else {
            continue;
        };
        let same = memories.iter().enumerate();
        let same = same
            .filter(|(_, m)| m.as_ref() == Some(own))
            .map(|(j, _)| j);
        let same: Vec<usize> = same.collect();
        let needed = same.iter().filter_map(|j| taken.get(*j));
        let needed = needed.fold(0u64, |sum, n| sum.saturating_add(*n));
        device.margin_bytes = device.free_bytes.map(|free| {
            let margin = i128::from(free) - i128::from(needed);
            i64::try_from(margin).unwrap_or(if margin < 0 { i64::MIN } else { i64::MAX })
        });
        device.shares_memory_with = same.into_iter().filter(|j| *j != i).collect();
    }
}

fn warnings(devices: &[DeviceReport]) -> Vec<NoteReport> {
    let short = devices.iter().filter_map(|device| {
        let missing = device.margin_bytes.filter(|m| *m < 0)?;
        Some(NoteReport {
            kind: NoteKind::Warning,
            subject: device.name.clone(),
            text: format!(
                "{} are missing: give it less (--gpu-layers, --n-cpu-moe, --tensor-split), or a smaller --ctx or --kv-type",
                units::bytes(missing.unsigned_abs())
            ),
        })
    });
    short.collect()
}

/// Where pins and shares put things: one note for each decision and device.
fn home_notes(homes: &[Home], devices: &[String]) -> Vec<NoteReport> {
    /// Names that are shown.
    const SHOWN: usize = 3;
    let mut groups: Vec<(&Home, Vec<&str>)> = Vec::new();
    for home in homes {
        let same =
            |(first, _): &&mut (&Home, _)| first.why == home.why && first.device == home.device;
        match groups.iter_mut().find(same) {
            Some((_, names)) => names.push(&home.name),
            None => groups.push((home, vec![&home.name])),
        }
    }
    let notes = groups.into_iter().map(|(home, names)| {
        let mut shown = names
            .iter()
            .take(SHOWN)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        if names.len() > SHOWN {
            shown = format!("{shown} and {} more", names.len() - SHOWN);
        }
        let device = devices.get(home.device).map_or("", String::as_str);
        NoteReport {
            kind: if home.is_pinned {
                NoteKind::Pin
            } else {
                NoteKind::Spread
            },
            subject: home.why.clone(),
            text: format!("{shown} on {device}"),
        }
    });
    notes.collect()
}
