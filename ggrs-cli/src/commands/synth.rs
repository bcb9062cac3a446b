//! `ggrs synth`: a model of a real model's shape with random weights, for measuring.

use std::path::PathBuf;
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ggrs_model::synth::{self, Mix, Preset, SynthSpec, Vocab};
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::progress::Unit;
use crate::units::{Bytes, Count};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model whose shape it has
    #[arg(value_parser = parser::<Preset>(Preset::ALL.map(Preset::name)))]
    preset: Preset,
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How its weights are quantised
    #[arg(long, default_value = Mix::Q4KM.name(), ignore_case = true, value_parser = parser::<Mix>(Mix::all().map(Mix::name)))]
    qtype: Mix,
    /// Its vocabulary: none takes token ids only, dummy takes any text
    #[arg(long, default_value = Vocab::default().name(), value_parser = parser::<Vocab>(Vocab::ALL.map(Vocab::name)))]
    vocab: Vocab,
    /// Another number of layers than the preset has
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Where random numbers begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// One of some names, shown in the help.
fn parser<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<(), CliError> {
    let spec = SynthSpec {
        preset: args.preset,
        mix: args.qtype,
        vocab: args.vocab,
        n_layers: args.layers,
        seed: args.seed,
    };
    let bar = console.bar("writing", Unit::Bytes);
    let start = Instant::now();
    let report = synth::write(&spec, &args.output, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let rate = report.file_bytes as f64 / seconds.max(f64::MIN_POSITIVE);
    if args.json {
        let by_dtype = report
            .bytes_by_dtype
            .iter()
            .map(|(dtype, bytes)| (dtype.name().to_owned(), json!(bytes)));
        return console.json(&json!({
            "path": args.output,
            "bytes": report.file_bytes,
            "n_params": report.n_params,
            "n_tensors": report.n_tensors,
            "bytes_by_dtype": by_dtype.collect::<serde_json::Map<_, _>>(),
            "seconds": seconds,
            "bytes_per_second": rate,
        }));
    }
    console.line(format_args!(
        "{}: {} ({} bytes), {} parameters in {} tensors, written in {seconds:.1} s ({}/s)",
        args.output.display(),
        Bytes(report.file_bytes),
        report.file_bytes,
        Count(report.n_params),
        report.n_tensors,
        Bytes(rate as u64)
    ))
}
