//! From the command line's words to a loaded model and an open session. What they are used for is not known here.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggrs_model::gguf::{GgufError, GgufFile};
use ggrs_model::{Model, Session, SessionOptions};
use ggrs_sched::Placement;

use crate::console::Console;
use crate::demo;
use crate::error::CliError;
use crate::options::DeviceOptions;
use crate::progress::Unit;
use crate::units::Bytes;

/// Opens a model file, or the demo model.
pub(crate) fn open_file(path: Option<&Path>) -> Result<GgufFile, GgufError> {
    path.map_or_else(demo::open, GgufFile::open)
}

/// Loads a model's weights onto the devices, with a progress bar.
pub(crate) fn load_model(
    file: GgufFile,
    options: &DeviceOptions,
    console: &Console,
) -> Result<Arc<Model>, CliError> {
    load_placed(file, options.open()?, options, console)
}

/// The same where it was already said what lies where.
pub(crate) fn load_placed(
    file: GgufFile,
    placement: Placement,
    options: &DeviceOptions,
    console: &Console,
) -> Result<Arc<Model>, CliError> {
    load_timed(file, placement, options, console).map(|(model, _)| model)
}

/// The same, with the time from the first weight to the last.
pub(crate) fn load_timed(
    file: GgufFile,
    placement: Placement,
    options: &DeviceOptions,
    console: &Console,
) -> Result<(Arc<Model>, Duration), CliError> {
    let bar = console.bar("loading", Unit::Bytes);
    let mut start = None;
    let model = Model::from_file(
        file,
        placement,
        options.load_options(),
        &mut |done, total| {
            start.get_or_insert_with(Instant::now);
            bar.set_length(total);
            bar.set_position(done);
        },
    )?;
    let took = start.map_or(Duration::ZERO, |start| start.elapsed());
    bar.finish_and_clear();
    Ok((model, took))
}

/// Opens a session and logs its sizes.
pub(crate) fn open_session(
    model: &Arc<Model>,
    options: &SessionOptions,
) -> Result<Session, CliError> {
    let session = Session::new(model, options)?;
    for device in model.devices() {
        let info = device.info();
        tracing::info!(
            device = %info.name,
            features = info.features,
            held = %Bytes(info.memory.held),
            "device opened"
        );
    }
    tracing::info!(
        weights = %Bytes(model.weight_bytes()),
        ctx = session.n_ctx(),
        batch = options.n_batch,
        kv = %options.kv_dtype,
        "session opened"
    );
    Ok(session)
}
