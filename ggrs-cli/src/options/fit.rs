//! Options of making a model fit: the planner runs dry before anything is loaded.

use ggrs_model::fit::{FitOptions, fit};
use ggrs_model::gguf::GgufFile;
use ggrs_model::{Deployment, SessionOptions};
use ggrs_sched::Placement;

use crate::error::CliError;
use crate::options::DeviceOptions;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Placement options")]
pub(crate) struct FitArgs {
    /// Choose shares, context length, experts and layers on the CPU so that the model fits the free memory; what is
    /// given on the command line stays
    #[arg(long)]
    fit: bool,
    /// MiB of every device that a fit leaves free
    #[arg(long, value_name = "MIB", default_value_t = 512, requires = "fit")]
    fit_margin: u64,
}

impl FitArgs {
    /// Opens the devices and says what lies where on them; if asked, so that a session with these options fits. A
    /// context that was not given gets the length that was found.
    pub(crate) fn place(
        &self,
        file: &GgufFile,
        device: &DeviceOptions,
        session: &mut SessionOptions,
    ) -> Result<(Deployment, Placement), CliError> {
        let deployment = device.deployment()?;
        if !self.fit {
            let placement = deployment.placement()?;
            return Ok((deployment, placement));
        }
        let options = FitOptions {
            session: session.clone(),
            margin_bytes: self.fit_margin.saturating_mul(1 << 20),
            ..FitOptions::default()
        };
        let found = fit(file, &deployment, &device.load_options(), &options)?;
        for attempt in &found.attempts {
            tracing::info!("fit: {attempt}");
        }
        session.n_ctx = Some(found.n_ctx);
        Ok((found.deployment, found.placement))
    }
}
