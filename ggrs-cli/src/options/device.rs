//! Options of where and how a model computes. The same for every command that runs one.

use std::num::NonZeroUsize;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ggrs_core::device::Precision;
use ggrs_core::passes::PassSet;
use ggrs_model::{Deployment, LoadOptions};
use ggrs_sched::Placement;

use crate::error::CliError;
use crate::options::PlacementArgs;
use crate::registry::registry;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Device options")]
pub(crate) struct DeviceOptions {
    /// The devices to run on, as `ggrs devices` lists them, with commas between; members of one device are joined by +
    /// (cpu:0/4+cpu:1/4,cpu:2/4); `null` plans and computes nothing
    #[arg(long, value_name = "DEVICES", default_value = "cpu")]
    pub(crate) devices: String,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Threads of the CPU [default: all processors]
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// exact computes in F32 throughout, fast may quantise activations
    #[arg(long, default_value = Precision::Fast.name(), value_parser = precision_parser())]
    pub(crate) precision: Precision,
    /// Leave out a pass over the graph; may be given several times
    #[arg(long = "no-pass", value_name = "NAME", value_parser = PossibleValuesParser::new(PassSet::default().names()))]
    pub(crate) no_passes: Vec<String>,
}

fn precision_parser() -> impl clap::builder::TypedValueParser<Value = Precision> {
    PossibleValuesParser::new([Precision::Fast.name(), Precision::Exact.name()]).map(|name| {
        if name == Precision::Exact.name() {
            Precision::Exact
        } else {
            Precision::Fast
        }
    })
}

impl DeviceOptions {
    /// Opens the devices; says how a model is to lie over them.
    pub(crate) fn deployment(&self) -> Result<Deployment, CliError> {
        let registry = registry(self.threads.map(NonZeroUsize::get))?;
        self.placement.deployment(&self.devices, &registry)
    }

    /// Opens the devices, and says what lies where on them.
    pub(crate) fn open(&self) -> Result<Placement, CliError> {
        Ok(self.deployment()?.placement()?)
    }

    /// How a model is loaded.
    pub(crate) fn load_options(&self) -> LoadOptions {
        let all = PassSet::default();
        let passes = self
            .no_passes
            .iter()
            .fold(all, |passes, name| passes.without(name));
        LoadOptions {
            precision: self.precision,
            passes,
        }
    }

    /// Threads of the CPU.
    pub(crate) fn n_threads(&self) -> usize {
        self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            NonZeroUsize::get,
        )
    }
}
