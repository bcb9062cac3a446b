//! The report for a terminal: what fits first, then what moves, then why; every op only if it is asked for.

use std::fmt::Write as _;

use super::data::{
    Arrangement, CellReport, CollectiveReport, CopyReport, DeviceReport, LayerReport, NoteKind,
    NoteReport, PlanReport, StepReport,
};
use super::units::{self, bytes, count, float_bytes, flops, printable};

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// Every pass, op and weight.
    pub ops: bool,
}

/// Characters of a memory bar.
const BAR: usize = 40;

impl PlanReport {
    /// The report as text.
    pub fn to_text(&self, options: TextOptions) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out, options);
        out
    }

    fn write_text(&self, out: &mut String, options: TextOptions) -> std::fmt::Result {
        let model = &self.model;
        writeln!(
            out,
            "{} ({}) from {}",
            printable(&model.name),
            printable(&model.arch),
            printable(&model.file)
        )?;
        writeln!(
            out,
            "{}; precision {}, context of {} with {} keys and values",
            printable(&self.split),
            self.precision,
            count(self.context.n_ctx, "token", "tokens"),
            self.context.kv_dtype
        )?;
        self.write_devices(out)?;
        self.write_layers(out)?;
        for step in &self.steps {
            self.write_step(out, step)?;
        }
        self.write_notes(out, options)?;
        if options.ops {
            self.write_weights(out)?;
            for step in &self.steps {
                self.write_ops(out, step)?;
            }
        }
        Ok(())
    }

    fn write_devices(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nMemory      █ weights  ▓ KV and states  ▒ compute  ░ used by others"
        )?;
        for (i, device) in self.devices.iter().enumerate() {
            let name = printable(&device.name);
            let what = format!(
                "{}, {}",
                printable(&device.hardware),
                printable(&device.features)
            );
            if !device.members.is_empty() {
                let all = device.members.iter().map(ToString::to_string);
                let all = all.collect::<Vec<_>>().join(", ");
                writeln!(out, "  {i:>2}  {name}: one device made of {all}")?;
                continue;
            }
            writeln!(out, "  {i:>2}  {name}  {what}")?;
            writeln!(out, "      ▕{}▏ {}", bar(device), taken(device))?;
            writeln!(out, "       {}", self.left(device))?;
        }
        Ok(())
    }

    /// What is left on a device, and with whom it shares it.
    fn left(&self, device: &DeviceReport) -> String {
        let mut text = match (device.margin_bytes, device.free_bytes, device.total_bytes) {
            (Some(margin), Some(free), Some(total)) if margin < 0 => format!(
                "{} MISSING: {} free of {}",
                bytes(margin.unsigned_abs()),
                bytes(free),
                bytes(total)
            ),
            (Some(margin), Some(free), Some(total)) => format!(
                "{} left of {} free ({} in all)",
                units::signed_bytes(margin),
                bytes(free),
                bytes(total)
            ),
            _ => String::new(),
        };
        if !device.shares_memory_with.is_empty() {
            let _ = write!(
                text,
                ", one memory with {}",
                indices(&device.shares_memory_with, ", ")
            );
        }
        text
    }

    fn write_layers(&self, out: &mut String) -> std::fmt::Result {
        let mut roles: Vec<&str> = Vec::new();
        for cell in self.layers.iter().flat_map(|l| &l.cells) {
            if !roles.contains(&&*cell.role) {
                roles.push(&cell.role);
            }
        }
        // Neighbours that lie alike are one row.
        let mut rows: Vec<(Vec<&LayerReport>, Vec<String>)> = Vec::new();
        for layer in &self.layers {
            let find = |role: &&str| layer.cells.iter().find(|c| c.role == **role);
            let cells: Vec<String> = roles
                .iter()
                .map(|r| find(r).map(cell_text).unwrap_or_default())
                .collect();
            match rows.last_mut() {
                Some((layers, same)) if *same == cells => layers.push(layer),
                _ => rows.push((vec![layer], cells)),
            }
        }
        let mut table = Table::new();
        let mut head = vec!["layer".to_owned()];
        head.extend(roles.iter().map(|r| printable(r)));
        table.row(head);
        for (layers, mut cells) in rows {
            let names = layers.iter().map(|l| l.name.as_str());
            cells.insert(0, units::ranges(names));
            table.row(cells);
        }
        writeln!(
            out,
            "\nPlacement   2 on device 2   0|1 cut over 0 and 1   0=1 whole on both   0,1 some here, some there"
        )?;
        table.write(out)
    }

    fn write_step(&self, out: &mut String, step: &StepReport) -> std::fmt::Result {
        let totals = &step.totals;
        writeln!(
            out,
            "\n{}: {}, {}, {} read and written",
            capital(&step.name),
            count(step.ops.len(), "op", "ops"),
            flops(totals.flops),
            float_bytes(totals.bytes)
        )?;
        if totals.n_copies > 0 {
            writeln!(
                out,
                "  {} between devices, {}",
                count(totals.n_copies, "copy", "copies"),
                bytes(totals.copy_bytes)
            )?;
            let copies: Vec<&CopyReport> = step.copies().collect();
            let key = |c: &CopyReport| (c.from, c.to, c.dtype.clone(), c.shape.clone());
            for group in grouped(&copies, key) {
                self.write_copies(out, &group)?;
            }
        }
        if totals.n_collectives > 0 {
            writeln!(
                out,
                "  {} between members, {} on the wire",
                count(totals.n_collectives, "collective", "collectives"),
                bytes(totals.wire_bytes)
            )?;
            let all: Vec<&CollectiveReport> = step.collectives().collect();
            let key = |c: &CollectiveReport| {
                let what = (c.kind.clone(), c.members.clone(), c.shape.clone());
                (
                    what,
                    c.wire_dtype.clone(),
                    c.transport.clone(),
                    c.why.clone(),
                )
            };
            for group in grouped(&all, key) {
                write_collectives(out, &group)?;
            }
        }
        if totals.n_copies + totals.n_collectives == 0 {
            writeln!(out, "  nothing moves between devices")?;
        }
        Ok(())
    }

    fn write_copies(&self, out: &mut String, group: &[&CopyReport]) -> std::fmt::Result {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let from = first.from.map_or("the file", |d| self.device_name(d));
        writeln!(
            out,
            "    {} x {} {} ({})  {} -> {}  layers {}",
            group.len(),
            first.dtype,
            units::shape(&first.shape),
            bytes(first.bytes),
            printable(from),
            printable(self.device_name(first.to)),
            units::ranges(group.iter().map(|c| c.layer.as_str()))
        )?;
        writeln!(
            out,
            "      {}{}: {}",
            printable(&first.value),
            more(group.len()),
            printable(&first.why)
        )
    }

    fn write_notes(&self, out: &mut String, options: TextOptions) -> std::fmt::Result {
        let is_shown = |n: &&NoteReport| options.ops || n.kind != NoteKind::Pass;
        let shown: Vec<_> = self.notes.iter().filter(is_shown).collect();
        if !shown.is_empty() {
            writeln!(out, "\nDecisions")?;
        }
        for note in shown {
            writeln!(
                out,
                "  {}  {}: {}",
                note.kind.name(),
                printable(&note.subject),
                printable(&note.text)
            )?;
        }
        Ok(())
    }

    fn write_weights(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nWeights")?;
        let mut table = Table::new();
        table
            .row(["name", "dtype", "shape", "device", "form", "bytes", "split"].map(str::to_owned));
        for w in &self.weights {
            table.row([
                printable(&w.name),
                w.dtype.clone(),
                units::shape(&w.shape),
                w.device.to_string(),
                w.form.clone(),
                bytes(w.bytes),
                w.split.clone(),
            ]);
        }
        table.write(out)
    }

    fn write_ops(&self, out: &mut String, step: &StepReport) -> std::fmt::Result {
        writeln!(out, "\nOps: {}", step.name)?;
        let mut table = Table::new();
        let head = [
            "",
            "layer",
            "device",
            "op",
            "node",
            "kernel",
            "flops",
            "bytes",
            "why this kernel",
        ];
        table.row(head.map(str::to_owned));
        for op in &step.ops {
            table.row([
                op.index.to_string(),
                op.layer.clone(),
                op.device.to_string(),
                op.op.clone(),
                printable(&op.node),
                printable(&op.kernel),
                flops(op.flops),
                float_bytes(op.bytes),
                printable(&op.reason),
            ]);
        }
        table.write(out)
    }
}

fn write_collectives(out: &mut String, group: &[&CollectiveReport]) -> std::fmt::Result {
    let Some(first) = group.first() else {
        return Ok(());
    };
    writeln!(
        out,
        "    {} x {} of {} {} over {}  {} each by {}  layers {}",
        group.len(),
        first.kind,
        first.wire_dtype,
        units::shape(&first.shape),
        indices(&first.members, ", "),
        bytes(first.wire_bytes),
        printable(&first.transport),
        units::ranges(group.iter().map(|c| c.layer.as_str()))
    )?;
    writeln!(
        out,
        "      {}{}: {}",
        printable(&first.node),
        more(group.len()),
        printable(&first.why)
    )
}

/// ` and 3 more`, for a group of four.
fn more(n: usize) -> String {
    if n > 1 {
        format!(" and {} more", n - 1)
    } else {
        String::new()
    }
}

fn indices(devices: &[usize], between: &str) -> String {
    let all = devices.iter().map(ToString::to_string);
    all.collect::<Vec<_>>().join(between)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// Which devices hold a cell, by number.
fn cell_text(cell: &CellReport) -> String {
    let between = match cell.arrangement {
        Arrangement::Whole | Arrangement::Mixed => ",",
        Arrangement::Split => "|",
        Arrangement::Replicated => "=",
    };
    let devices: Vec<usize> = cell.parts.iter().map(|p| p.device).collect();
    indices(&devices, between)
}

/// Items with equal keys together, groups in the order of their first item.
fn grouped<'a, T, K: PartialEq>(items: &[&'a T], key: impl Fn(&T) -> K) -> Vec<Vec<&'a T>> {
    let mut groups: Vec<(K, Vec<&'a T>)> = Vec::new();
    for item in items {
        let own = key(item);
        match groups.iter_mut().find(|(k, _)| *k == own) {
            Some((_, group)) => group.push(item),
            None => groups.push((own, vec![item])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The parts of a device's bytes in words.
fn taken(device: &DeviceReport) -> String {
    let b = &device.bytes;
    let compute = b.compute.saturating_add(b.constants);
    let parts = [
        ("weights", b.weights),
        ("KV", b.states),
        ("compute", compute),
    ];
    let parts = parts
        .into_iter()
        .map(|(what, n)| format!("{what} {}", bytes(n)));
    parts.collect::<Vec<_>>().join(", ")
}

/// A device's memory as a bar; whatever is not nothing shows.
fn bar(device: &DeviceReport) -> String {
    let b = &device.bytes;
    let ours = b.total();
    let free = device.free_bytes.unwrap_or(ours);
    let total = device.total_bytes.unwrap_or(ours).max(ours).max(1);
    let others = total.saturating_sub(free.max(ours));
    let mut out = String::new();
    let mut done = 0;
    let compute = b.compute.saturating_add(b.constants);
    for (n, c) in [
        (b.weights, '█'),
        (b.states, '▓'),
        (compute, '▒'),
        (others, '░'),
    ] {
        let room = BAR - done;
        let wide = u128::from(n) * BAR as u128 + u128::from(total) / 2;
        let wide = usize::try_from(wide / u128::from(total)).unwrap_or(BAR);
        let wide = wide.max(usize::from(n > 0)).min(room);
        out.extend(std::iter::repeat_n(c, wide));
        done += wide;
    }
    out.extend(std::iter::repeat_n(' ', BAR - done));
    out
}

/// Rows whose columns are as wide as their widest cell; the first row is the head.
struct Table(Vec<Vec<String>>);

impl Table {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.0.push(cells.into());
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.0 {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "  {cell:width$}")?;
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
