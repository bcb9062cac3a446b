//! Previews: the plan of a model's step without loading a weight.

use ggrs_sched::{Placement, SchedPlan};

use crate::arch::Architecture;
use crate::blocks::names;
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::model::LoadOptions;
use crate::session::SessionOptions;

/// The plan of a step of `n_tokens` tokens with the logits of one, as a session with these options would run it.
///
/// # Errors
/// A file of an unknown architecture or that lacks something, a placement that cannot be met, a device without kernels
/// or memory for its part.
pub fn preview(
    file: &GgufFile,
    placement: &Placement,
    load: &LoadOptions,
    session: &SessionOptions,
    n_tokens: usize,
) -> Result<SchedPlan, ModelError> {
    let architecture = Architecture::read(file)?;
    let n_ctx = session.n_ctx_for(architecture.n_ctx_train());
    let graph = architecture.graph(file, &session.step_shape(n_ctx))?;
    placement.check_pins(&graph)?;
    let step = graph.bind(&[(names::N_TOKENS, n_tokens), (names::N_OUT, 1)])?;
    Ok(SchedPlan::new(&step, placement, &load.plan_options())?)
}
