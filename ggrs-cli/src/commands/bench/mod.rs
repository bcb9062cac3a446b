//! `ggrs bench`: speed of prefill and decode, with llama-bench's tests and columns.

mod loading;
mod profile;
mod report;
mod timing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggrs_model::Model;

use crate::console::Console;
use crate::error::CliError;
use crate::load::{load_timed, open_file};
use crate::options::{ContextOptions, DeviceOptions};
use loading::Loading;
use report::{Format, ModelFacts, Reporter, Row};
use timing::{Measured, Test, measure};

/// Measure prefill and decode speed
///
/// ppN reads N random tokens, tgN generates N tokens one by one; `@ dD` has D tokens in the context before. Each test
/// is warmed up (the whole prompt, or one token) and then repeated. The table has llama-bench's columns. As there, tgN
/// gives the model a random token each time and takes its logits to the host; with --chained, so many more are generated
/// as an answer is, each token from the one before.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The models [default: the demo model that is part of the program]
    #[arg(value_name = "MODEL.gguf")]
    models: Vec<PathBuf>,
    /// A model, as llama-bench takes it; may be given several times
    #[arg(short, long = "model", value_name = "MODEL.gguf")]
    more_models: Vec<PathBuf>,
    /// Tokens of the prefill tests; 0 for no such test
    #[arg(
        short = 'p',
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "512"
    )]
    n_prompt: Vec<usize>,
    /// Tokens of the decode tests; 0 for no such test
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "128"
    )]
    n_gen: Vec<usize>,
    /// Decode as well without the host: the most probable token, chosen on the device, is the next one
    #[arg(long)]
    chained: bool,
    /// Tokens in the context before a test
    #[arg(
        short = 'd',
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "0"
    )]
    n_depth: Vec<usize>,
    /// How often each test is repeated
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// After each test, print which kernels a step's time goes to, on devices that can tell
    #[arg(long)]
    profile: bool,
    /// Measure the bus too: plain copies of 1 GiB to the devices, with which loading is compared
    #[arg(long)]
    bus: bool,
    /// How the results are printed
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "md")]
    output: Format,
    #[command(flatten)]
    context: ContextOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    let mut paths: Vec<Option<&Path>> = args
        .models
        .iter()
        .chain(&args.more_models)
        .map(|path| Some(path.as_path()))
        .collect();
    if paths.is_empty() {
        paths.push(None);
    }
    // All are opened before the first is measured: a wrong name is found at once.
    let files = paths
        .into_iter()
        .map(open_file)
        .collect::<Result<Vec<_>, _>>()?;
    let mut reporter = Reporter::new(args.output, &args.device, &args.context);
    for file in files {
        let facts = ModelFacts::read(&file);
        let (model, took) = load_timed(file, args.device.open()?, &args.device, console)?;
        let loading = Loading::new(&model, took, args.bus)?;
        for test in args.tests() {
            let Measured { samples, profile } = args.measure(&model, test, console)?;
            reporter.row(Row::new(&facts, loading, test, samples), console)?;
            for (device, times) in profile {
                profile::print(test, &device, &times, console);
            }
        }
        console.note(loading);
    }
    reporter.finish(console)
}

impl Args {
    /// The tests in order: for each depth, prefills, decodes and then chained ones.
    fn tests(&self) -> Vec<Test> {
        let mut tests = Vec::new();
        for depth in &self.n_depth {
            let prefills = self.n_prompt.iter().map(|n| Test::prefill(*n, *depth));
            let decodes = self.n_gen.iter().map(|n| Test::decode(*n, *depth));
            let chained = self.n_gen.iter().filter(|_| self.chained);
            let chained = chained.map(|n| Test::chained(*n, *depth));
            let all = prefills.chain(decodes).chain(chained);
            tests.extend(all.filter(|test| test.n_tokens > 0));
        }
        tests
    }

    fn measure(
        &self,
        model: &Arc<Model>,
        test: Test,
        console: &Console,
    ) -> Result<Measured, CliError> {
        let options = self
            .context
            .session_options(Some(test.n_ctx()), self.device.precision);
        measure(
            model,
            test,
            &options,
            (self.repetitions, self.profile),
            console,
        )
    }
}
