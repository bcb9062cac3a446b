//! `ggrs devices`: what models can run on.

use crate::console::Console;
use crate::error::CliError;
use crate::registry::{NULL, registry};
use crate::units::Bytes;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<(), CliError> {
    let mut devices = registry(None)?.enumerate()?;
    devices.retain(|device| device.name.backend != NULL);
    if args.json {
        return console.json(&devices);
    }
    for device in devices {
        let memory = device.memory;
        console.line(format_args!(
            "{}: {} ({}), memory {} free of {}",
            device.name,
            device.hardware,
            device.features,
            Bytes(memory.free),
            Bytes(memory.total)
        ))?;
    }
    Ok(())
}
