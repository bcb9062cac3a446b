//! `ggrs plan`: what would lie and run where, and what would move between devices. It loads no weight and computes
//! nothing.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use ggrs_model::gguf::GgufFile;
use ggrs_model::{Architecture, Deployment, HostExperts, SessionOptions, SplitMode, preview};
use ggrs_sched::report::{
    ContextReport, DeviceFacts, ModelReport, PlannedStep, ReportFacts, TextOptions, report_of,
};
use ggrs_sched::{Placement, SchedPlan};

use crate::console::Console;
use crate::error::CliError;
use crate::load::open_file;
use crate::options::{ContextOptions, DeviceOptions, FitArgs};

/// The word for the model that is part of the program.
const DEMO: &str = "demo";
/// The most tokens in one step.
const MAX_TOKENS: usize = 65_536;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model; `demo` is the one that is part of the program, and the default
    #[arg(value_name = "MODEL.gguf")]
    model: Option<PathBuf>,
    /// Plan a prefill step of N tokens beside the decode step [default: --batch]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Write the plan as JSON; `-` prints it instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the plan as a page that a browser shows, complete in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show every pass, op and weight
    #[arg(long)]
    ops: bool,
    #[command(flatten)]
    context: ContextOptions,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    fit: FitArgs,
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    let path = args.model.as_deref().filter(|m| *m != Path::new(DEMO));
    let file = open_file(path)?;
    let architecture = Architecture::read(&file)?;
    let mut session = args.context.session_options(None, args.device.precision);
    let (deployment, placement) = args.fit.place(&file, &args.device, &mut session)?;
    let sizes = Sizes::of(&args, session, &architecture)?;
    let load = args.device.load_options();
    let plan = |n: &usize| preview(&file, &placement, &load, &sizes.session, *n);
    let plans: Vec<SchedPlan> = sizes.steps.iter().map(plan).collect::<Result<_, _>>()?;
    let facts = ReportFacts {
        model: model_report(&file, &architecture),
        context: ContextReport {
            n_ctx: sizes.n_ctx,
            kv_dtype: sizes.session.kv_dtype.to_string(),
        },
        split: split_in_words(&deployment),
        devices: device_facts(&deployment, &placement),
    };
    let report = report_of(facts, &planned(&sizes, &plans));

    if let Some(path) = &args.html {
        write(path, &report.to_html())?;
    }
    match &args.json {
        Some(path) if path == Path::new("-") => return console.json(&report),
        Some(path) => write(path, &format!("{:#}\n", report.to_json()))?,
        None => {}
    }
    console.text(&report.to_text(TextOptions { ops: args.ops }))?;
    for path in args.html.iter().chain(&args.json) {
        console.note(format_args!("{} written", path.display()));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|source| CliError::Write {
        path: path.to_path_buf(),
        source,
    })
}

/// The sizes for which a plan is made.
struct Sizes {
    n_ctx: usize,
    /// Tokens of the steps.
    steps: Vec<usize>,
    session: SessionOptions,
}

impl Sizes {
    fn of(
        args: &Args,
        mut session: SessionOptions,
        architecture: &Architecture,
    ) -> Result<Self, CliError> {
        let n_ctx = session.n_ctx_for(architecture.n_ctx_train());
        let usage = |message: String| CliError::usage("plan", ErrorKind::ValueValidation, message);
        if n_ctx == 0 || i32::try_from(n_ctx).is_err() {
            return Err(usage(format!(
                "--ctx {n_ctx} is not possible: from 1 to 2147483647"
            )));
        }
        let n_tokens = args.tokens.unwrap_or(session.n_batch.min(n_ctx));
        let most = MAX_TOKENS.min(n_ctx);
        if n_tokens == 0 || n_tokens > most {
            return Err(usage(format!(
                "a step of {n_tokens} tokens is not possible (--tokens, --batch): from 1 to {most}, what the context holds"
            )));
        }
        session.n_batch = n_tokens;
        let mut steps = vec![1];
        steps.extend((n_tokens > 1).then_some(n_tokens));
        Ok(Self {
            n_ctx,
            steps,
            session,
        })
    }
}

/// The steps with their names.
fn planned<'a>(sizes: &Sizes, plans: &'a [SchedPlan]) -> Vec<PlannedStep<'a>> {
    let steps = sizes.steps.iter().zip(plans);
    let steps = steps.map(|(n_tokens, plan)| PlannedStep {
        name: match n_tokens {
            1 => "decode of 1 token".to_owned(),
            n => format!("prefill of {n} tokens"),
        },
        n_tokens: *n_tokens,
        plan,
    });
    steps.collect()
}

fn model_report(file: &GgufFile, architecture: &Architecture) -> ModelReport {
    let name = file.metadata().get::<&str>("general.name").ok().flatten();
    let paths: Vec<String> = file.paths().map(|p| p.display().to_string()).collect();
    let file = paths.join(", ");
    ModelReport {
        name: name.map_or_else(|| file.clone(), str::to_owned),
        arch: architecture.name().to_owned(),
        file,
    }
}

/// The placement's devices, each with the members it is made of.
fn device_facts(deployment: &Deployment, placement: &Placement) -> Vec<DeviceFacts> {
    // Devices that were added for pins are single ones.
    let groups = deployment.groups().into_iter();
    let groups = groups.chain(std::iter::repeat(Vec::new()));
    let facts = placement.devices.iter().zip(groups);
    let facts = facts.map(|(device, group)| DeviceFacts {
        info: device.info(),
        members: match group.as_slice() {
            [] | [_] => Vec::new(),
            members => members.iter().map(|d| d.info()).collect(),
        },
    });
    facts.collect()
}

fn split_in_words(deployment: &Deployment) -> String {
    let groups = deployment.devices.iter().map(|group| {
        let names = group.iter().map(|d| d.name().to_string());
        names.collect::<Vec<_>>().join("+")
    });
    let groups: Vec<String> = groups.collect();
    let mut text = match deployment.split {
        SplitMode::None => {
            format!(
                "everything on {}",
                groups.first().map_or("", String::as_str)
            )
        }
        SplitMode::Layer => format!("runs of layers over {}", groups.join(", ")),
        SplitMode::Tensor => format!("every tensor split over {}", groups.join(", ")),
    };
    if !deployment.shares.is_empty() {
        let shares: Vec<String> = deployment.shares.iter().map(ToString::to_string).collect();
        text += &format!(" by {}", shares.join(":"));
    }
    if let Some(n) = deployment.gpu_layers {
        text += &format!(", layers but the last {n} on the CPU");
    }
    match deployment.host_experts {
        HostExperts::None => {}
        HostExperts::First(1) => text += ", experts of the first layer on the CPU",
        HostExperts::First(n) => text += &format!(", experts of the first {n} layers on the CPU"),
        HostExperts::All => text += ", all experts on the CPU",
    }
    if let Some(device) = &deployment.kv_device {
        text += &format!(", KV on {device}");
    }
    text
}
