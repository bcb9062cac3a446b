//! `ggrs plan`: what would lie and run where, and what would move between devices. It loads no weight and computes
//! nothing.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use ggrs_core::device::DeviceInfo;
use ggrs_core::plan::PlanOptions;
use ggrs_model::gguf::GgufFile;
use ggrs_model::{
    Architecture, Deployment, HostExperts, ModelError, SessionOptions, SplitMode, StepShape,
};
use ggrs_sched::report::{
    self, ContextReport, DeviceFacts, ModelReport, PlanReport, PlannedStep, ReportFacts,
    TextOptions,
};
use ggrs_sched::{Placement, SchedPlan};

use crate::console::Console;
use crate::error::CliError;
use crate::load::open_file;
use crate::options::{ContextOptions, DeviceOptions};

/// The word for the model that is part of the program.
const DEMO: &str = "demo";
/// Cells per block of a session's page table.
const BLOCK: usize = 64;
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
}

pub(crate) fn run(args: Args, console: &mut Console) -> Result<(), CliError> {
    let path = args.model.as_deref().filter(|m| *m != Path::new(DEMO));
    let deployment = args.device.deployment()?;
    let file = open_file(path)?;
    let session = args.context.session_options(None, args.device.precision);
    let sizes = Sizes::of(&args, &session, &Architecture::read(&file)?)?;
    let load = args.device.load_options();
    let options = PlanOptions {
        precision: load.precision,
        passes: load.passes,
        collectives: None,
    };
    let placement = deployment.placement()?;
    let plans = plans(&file, &placement, &sizes, &options)?;
    let report = report_of(&file, &deployment, &placement, &sizes, &plans)?;

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
        session: &SessionOptions,
        architecture: &Architecture,
    ) -> Result<Self, CliError> {
        let n_ctx = session.n_ctx.unwrap_or(architecture.n_ctx_train().min(4096));
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
        let mut steps = vec![1];
        steps.extend((n_tokens > 1).then_some(n_tokens));
        Ok(Self {
            n_ctx,
            steps,
            session: session.clone(),
        })
    }

    /// Tokens of the largest step.
    fn max_tokens(&self) -> usize {
        self.steps.iter().copied().fold(2, usize::max)
    }
}

/// The plan of every step.
fn plans(
    file: &GgufFile,
    placement: &Placement,
    sizes: &Sizes,
    options: &PlanOptions,
) -> Result<Vec<SchedPlan>, CliError> {
    let shape = StepShape {
        max_tokens: sizes.max_tokens(),
        n_slots: 1,
        n_blocks: sizes.n_ctx.div_ceil(BLOCK),
        block: BLOCK,
        kv_dtype: sizes.session.kv_dtype,
    };
    let graph = Architecture::read(file)?.graph(file, &shape)?;
    placement.check_pins(&graph)?;
    let plan = |n_tokens: &usize| {
        let step = graph.bind(&[("n_tokens", *n_tokens), ("n_out", 1)]);
        let step = step.map_err(ModelError::from)?;
        Ok(SchedPlan::new(&step, placement, options)?)
    };
    sizes.steps.iter().map(plan).collect()
}

/// The report of the plans, with what stands in none of them: the model, the devices, the split in words.
fn report_of(
    file: &GgufFile,
    deployment: &Deployment,
    placement: &Placement,
    sizes: &Sizes,
    plans: &[SchedPlan],
) -> Result<PlanReport, CliError> {
    let text = |key: &str| file.metadata().get::<&str>(key).ok().flatten();
    let paths: Vec<String> = file.paths().map(|p| p.display().to_string()).collect();
    let first = paths.first().cloned().unwrap_or_default();
    let facts = ReportFacts {
        model: ModelReport {
            name: text("general.name").map_or_else(|| first.clone(), str::to_owned),
            arch: Architecture::read(file)?.name().to_owned(),
            file: paths.join(", "),
        },
        context: ContextReport {
            n_ctx: sizes.n_ctx,
            kv_dtype: sizes.session.kv_dtype.to_string(),
        },
        split: split_in_words(deployment),
        devices: device_facts(deployment, placement),
    };
    let steps = sizes.steps.iter().zip(plans).map(|(n_tokens, plan)| PlannedStep {
        name: match n_tokens {
            1 => "decode of 1 token".to_owned(),
            n => format!("prefill of {n} tokens"),
        },
        n_tokens: *n_tokens,
        plan,
    });
    Ok(report::report_of(facts, &steps.collect::<Vec<_>>()))
}

/// The placement's devices, each with the members it is made of.
fn device_facts(deployment: &Deployment, placement: &Placement) -> Vec<DeviceFacts> {
    let infos = |devices: &[std::sync::Arc<dyn ggrs_core::device::Device>]| -> Vec<DeviceInfo> {
        devices.iter().map(|d| d.info()).collect()
    };
    let groups: Vec<Vec<DeviceInfo>> = match deployment.split {
        SplitMode::Tensor => vec![deployment.devices.iter().flat_map(|g| infos(g)).collect()],
        SplitMode::None => deployment.devices.first().map(|g| infos(g)).into_iter().collect(),
        SplitMode::Layer => deployment.devices.iter().map(|g| infos(g)).collect(),
    };
    // Devices that were added for pins are single ones.
    let groups = groups.into_iter().chain(std::iter::repeat(Vec::new()));
    let facts = placement.devices.iter().zip(groups).map(|(device, group)| DeviceFacts {
        info: device.info(),
        members: if group.len() > 1 { group } else { Vec::new() },
    });
    facts.collect()
}

fn split_in_words(deployment: &Deployment) -> String {
    let groups = deployment.devices.iter().map(|group| {
        let names = group.iter().map(|d| d.info().name.to_string());
        names.collect::<Vec<_>>().join("+")
    });
    let groups: Vec<String> = groups.collect();
    let mut text = match deployment.split {
        SplitMode::None => {
            format!("everything on {}", groups.first().map_or("", String::as_str))
        }
        SplitMode::Layer => format!("runs of layers over {}", groups.join(", ")),
        SplitMode::Tensor => format!("every tensor split over {}", groups.join(", ")),
    };
    if !deployment.shares.is_empty() {
        let shares: Vec<String> = deployment.shares.iter().map(ToString::to_string).collect();
        text += &format!(" by {}", shares.join(":"));
    }
    if let Some(n) = deployment.gpu_layers {
        text += &format!(", only the last {n} layers");
    }
    match deployment.host_experts {
        HostExperts::None => {}
        HostExperts::First(n) => text += &format!(", experts of the first {n} layers on the CPU"),
        HostExperts::All => text += ", all experts on the CPU",
    }
    if let Some(device) = &deployment.kv_device {
        text += &format!(", KV on {device}");
    }
    text
}
