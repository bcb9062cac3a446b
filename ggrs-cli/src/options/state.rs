//! Options to go on with the context of an earlier command.

use std::path::PathBuf;

use ggrs_model::{Session, SlotId};

use crate::error::CliError;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Context options")]
pub(crate) struct StateOptions {
    /// Begin with the context that --save-state wrote: what the prompt shares with it is not computed again
    #[arg(long, value_name = "FILE")]
    load_state: Option<PathBuf>,
    /// Write the context to a file at the end
    #[arg(long, value_name = "FILE")]
    save_state: Option<PathBuf>,
}

impl StateOptions {
    pub(crate) fn load(&self, session: &mut Session) -> Result<(), CliError> {
        if let Some(path) = &self.load_state {
            session.slot(SlotId(0))?.load_state(path)?;
            tracing::info!(path = %path.display(), n_tokens = session.tokens().len(), "context loaded");
        }
        Ok(())
    }

    pub(crate) fn save(&self, session: &mut Session) -> Result<(), CliError> {
        if let Some(path) = &self.save_state {
            session.slot(SlotId(0))?.save_state(path)?;
            tracing::info!(path = %path.display(), n_tokens = session.tokens().len(), "context saved");
        }
        Ok(())
    }
}
