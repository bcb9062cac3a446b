//! The benchmark's results: what a row says, as a Markdown table, CSV or JSON. Times nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::gguf::GgufFile;
use serde::Serialize;

use super::loading::Loading;
use super::timing::{Kind, Test};
use crate::console::Console;
use crate::error::CliError;
use crate::options::{ContextOptions, DeviceOptions};
use crate::units::{Bytes, Count, per_second};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A Markdown table
    Md,
    /// Comma-separated values
    Csv,
    /// JSON
    Json,
}

/// What the table says of a model.
pub(super) struct ModelFacts {
    path: PathBuf,
    /// Architecture and the dtype of most of its bytes.
    kind: String,
    bytes: u64,
    n_params: u64,
}

impl ModelFacts {
    pub(super) fn read(file: &GgufFile) -> Self {
        let mut by_type = HashMap::new();
        let (mut bytes, mut n_params) = (0u64, 0u64);
        for tensor in file.tensors() {
            let n_bytes = tensor.n_bytes().unwrap_or(0) as u64;
            bytes = bytes.saturating_add(n_bytes);
            n_params = n_params.saturating_add(tensor.n_elems() as u64);
            *by_type
                .entry(tensor.ggml_type().name().unwrap_or("?"))
                .or_insert(0u64) += n_bytes;
        }
        // The name decides between equals: the answer must not depend on the order of a hash map.
        let most = by_type
            .into_iter()
            .max_by_key(|(name, bytes)| (*bytes, *name));
        let architecture: &str = file
            .metadata()
            .require("general.architecture")
            .unwrap_or("?");
        Self {
            path: file.paths().next().map(PathBuf::from).unwrap_or_default(),
            kind: format!("{architecture} {}", most.map_or("?", |(name, _)| name)),
            bytes,
            n_params,
        }
    }
}

/// One result. Field names follow llama-bench where they mean the same.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    model_filename: PathBuf,
    model_type: String,
    model_size: u64,
    model_n_params: u64,
    load_bytes: u64,
    load_ns: u64,
    /// Bytes per second, if it was measured.
    bus: Option<f64>,
    test: String,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    avg_ns: f64,
    stddev_ns: f64,
    avg_ts: f64,
    stddev_ts: f64,
    samples_ns: Vec<u64>,
    samples_ts: Vec<f64>,
}

impl Row {
    pub(super) fn new(
        facts: &ModelFacts,
        loading: Loading,
        test: Test,
        samples: Vec<Duration>,
    ) -> Self {
        let n_if = |is_so: bool| if is_so { test.n_tokens } else { 0 };
        let is_prefill = test.kind == Kind::Prefill;
        let nanoseconds = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let samples_ns: Vec<u64> = samples.iter().map(nanoseconds).collect();
        let samples_ts: Vec<f64> = samples
            .iter()
            .map(|s| per_second(test.n_tokens, *s))
            .collect();
        let ns: Vec<f64> = samples_ns.iter().map(|ns| *ns as f64).collect();
        let (avg_ns, stddev_ns) = mean_and_deviation(&ns);
        let (avg_ts, stddev_ts) = mean_and_deviation(&samples_ts);
        Self {
            model_filename: facts.path.clone(),
            model_type: facts.kind.clone(),
            model_size: facts.bytes,
            model_n_params: facts.n_params,
            load_bytes: loading.bytes,
            load_ns: nanoseconds(&loading.took),
            bus: loading.bus,
            test: test.to_string(),
            n_prompt: n_if(is_prefill),
            n_gen: n_if(!is_prefill),
            n_depth: test.depth,
            avg_ns,
            stddev_ns,
            avg_ts,
            stddev_ts,
            samples_ns,
            samples_ts,
        }
    }
}

/// Mean and sample standard deviation; the latter is 0 for one sample.
fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

/// What is the same in all rows.
#[derive(Clone, Debug, Serialize)]
struct Setup {
    backends: String,
    n_threads: usize,
    n_batch: usize,
    type_kv: &'static str,
    precision: &'static str,
    no_passes: Vec<String>,
}

/// A row with its setup, as JSON has it.
#[derive(Serialize)]
struct FullRow<'a> {
    #[serde(flatten)]
    setup: &'a Setup,
    #[serde(flatten)]
    row: &'a Row,
}

/// A column of the table: title, width, whether numbers stand in it.
struct Column {
    title: &'static str,
    width: usize,
    is_number: bool,
}

const fn column(title: &'static str, width: usize, is_number: bool) -> Column {
    Column {
        title,
        width,
        is_number,
    }
}

/// Prints rows as they come, JSON at the end.
pub(super) struct Reporter {
    format: Format,
    setup: Setup,
    /// Columns for what is not as usual: title and value.
    unusual: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

impl Reporter {
    pub(super) fn new(format: Format, device: &DeviceOptions, context: &ContextOptions) -> Self {
        let kv = context.kv_dtype(device.precision);
        let setup = Setup {
            backends: device.devices.clone(),
            n_threads: device.n_threads(),
            n_batch: context.batch,
            type_kv: kv.name(),
            precision: device.precision.name(),
            no_passes: device.no_passes.clone(),
        };
        let mut unusual = Vec::new();
        if context.batch != ggrs_model::SessionOptions::default().n_batch {
            unusual.push(("n_batch", context.batch.to_string()));
        }
        if kv != DType::F16 {
            unusual.push(("type_kv", kv.name().to_lowercase()));
        }
        if device.precision != Precision::default() {
            unusual.push(("precision", device.precision.name().to_owned()));
        }
        if !device.no_passes.is_empty() {
            unusual.push(("no_pass", device.no_passes.join(" ")));
        }
        Self {
            format,
            setup,
            unusual,
            rows: Vec::new(),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![
            column("model", 24, false),
            column("size", 10, true),
            column("params", 10, true),
            column("backend", 10, false),
            column("threads", 7, true),
        ];
        columns.extend(
            self.unusual
                .iter()
                .map(|(title, value)| column(title, title.len().max(value.len()), true)),
        );
        columns.extend([column("test", 16, true), column("t/s", 20, true)]);
        columns
    }

    fn head(&self, console: &mut Console) -> Result<(), CliError> {
        match self.format {
            Format::Json => Ok(()),
            Format::Csv => console.line(
                "model_filename,model_type,model_size,model_n_params,backends,n_threads,n_batch,type_kv,precision,\
                 no_passes,load_bytes,load_ns,bus,test,n_prompt,n_gen,n_depth,avg_ns,stddev_ns,avg_ts,stddev_ts",
            ),
            Format::Md => {
                let columns = self.columns();
                console.line(table_line(columns.iter().map(|c| pad(c.title, c))))?;
                let rule = |c: &Column| {
                    let dashes = "-".repeat(c.width + 1);
                    if c.is_number { format!("{dashes}:") } else { format!("{dashes}-") }
                };
                let rules: Vec<String> = columns.iter().map(rule).collect();
                console.line(format_args!("|{}|", rules.join("|")))
            }
        }
    }

    /// Takes one row, and prints it unless all are printed at the end.
    pub(super) fn row(&mut self, row: Row, console: &mut Console) -> Result<(), CliError> {
        if self.rows.is_empty() {
            self.head(console)?;
        }
        let setup = &self.setup;
        let printed = match self.format {
            Format::Json => Ok(()),
            Format::Csv => {
                let cells = [
                    row.model_filename.display().to_string(),
                    row.model_type.clone(),
                    row.model_size.to_string(),
                    row.model_n_params.to_string(),
                    setup.backends.clone(),
                    setup.n_threads.to_string(),
                    setup.n_batch.to_string(),
                    setup.type_kv.to_owned(),
                    setup.precision.to_owned(),
                    setup.no_passes.join(" "),
                    row.load_bytes.to_string(),
                    row.load_ns.to_string(),
                    row.bus.map_or_else(String::new, |bus| format!("{bus:.0}")),
                    row.test.clone(),
                    row.n_prompt.to_string(),
                    row.n_gen.to_string(),
                    row.n_depth.to_string(),
                    format!("{:.0}", row.avg_ns),
                    format!("{:.0}", row.stddev_ns),
                    row.avg_ts.to_string(),
                    row.stddev_ts.to_string(),
                ];
                console.line(cells.map(|cell| csv_cell(&cell)).join(","))
            }
            Format::Md => {
                let mut cells = vec![
                    row.model_type.clone(),
                    Bytes(row.model_size).to_string(),
                    Count(row.model_n_params).to_string(),
                    setup.backends.clone(),
                    setup.n_threads.to_string(),
                ];
                cells.extend(self.unusual.iter().map(|(_, value)| value.clone()));
                cells.extend([
                    row.test.clone(),
                    format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts),
                ]);
                let columns = self.columns();
                console.line(table_line(
                    cells.iter().zip(&columns).map(|(cell, c)| pad(cell, c)),
                ))
            }
        };
        self.rows.push(row);
        printed
    }

    /// Prints what is still to be printed.
    pub(super) fn finish(self, console: &mut Console) -> Result<(), CliError> {
        if self.format != Format::Json {
            return Ok(());
        }
        let setup = &self.setup;
        let rows: Vec<FullRow<'_>> = self.rows.iter().map(|row| FullRow { setup, row }).collect();
        console.json(&rows)
    }
}

fn pad(cell: &str, column: &Column) -> String {
    let width = column.width;
    if column.is_number {
        format!("{cell:>width$}")
    } else {
        format!("{cell:width$}")
    }
}

fn table_line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// A value for CSV: in quotes if it holds what separates values.
fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[2.0, 4.0]), (3.0, 2f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(csv_cell("plain"), "plain");
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
