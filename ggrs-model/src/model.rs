//! A model: a file's weights on a device, its tokenizer, its architecture. Shared by any number of sessions.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use ggrs_core::Graph;
use ggrs_core::device::{Bindings, Device, Precision, WeightSource};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::PlanOptions;
use ggrs_sched::{Placement, SchedPlan, WeightFile};

use crate::arch::{Architecture, StepShape};
use crate::blocks::names;
use crate::chat::{ChatError, ChatTemplate};
use crate::error::{ModelError, SessionError};
use crate::gguf::GgufFile;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::load_tokenizer;

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Exact or fast.
    pub precision: Precision,
    /// The passes over its graphs.
    pub passes: PassSet,
}

impl LoadOptions {
    /// The same for the planner.
    pub(crate) fn plan_options(&self) -> PlanOptions {
        PlanOptions {
            precision: self.precision,
            passes: self.passes.clone(),
            collectives: None,
        }
    }
}

/// A loaded model.
///
/// Cheap to share: sessions hold it in an [`Arc`] and never change it.
pub struct Model {
    file: GgufFile,
    architecture: Architecture,
    tokenizer: Option<Tokenizer>,
    placement: Placement,
    /// For each device of the placement.
    weights: Vec<Bindings>,
    weight_bytes: u64,
    options: PlanOptions,
}

impl Model {
    /// Opens a GGUF file and loads its weights onto a device, or onto several as a placement says. `progress` hears of bytes loaded and bytes in all.
    ///
    /// # Errors
    /// A file that is damaged, of an unknown architecture, or lacks something; a device without kernels or memory
    /// for it.
    pub fn load(
        path: impl AsRef<Path>,
        placement: impl Into<Placement>,
        options: LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, ModelError> {
        Self::from_file(GgufFile::open(path)?, placement, options, progress)
    }

    /// Like [`Model::load`], from a file that is already open.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn from_file(
        file: GgufFile,
        placement: impl Into<Placement>,
        options: LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, ModelError> {
        let architecture = Architecture::read(&file)?;
        let tokenizer = load_tokenizer(&file)?;
        let options = options.plan_options();

        let placement = placement.into();
        let graph = architecture.graph(&file, &StepShape::SMALLEST)?;
        placement.check_pins(&graph)?;
        // One token's plan names every weight with its device and the form the device wants it in.
        let step = graph.bind(&[(names::N_TOKENS, 1), (names::N_OUT, 1)])?;
        let step = SchedPlan::new(&step, &placement, &options)?;
        let slots = || {
            let parts = step.parts.iter();
            parts.flat_map(|p| p.plan.weights.iter().map(|w| (p.device, w)))
        };
        let total = slots().map(|(_, w)| w.bytes).sum();
        let mut weights = vec![Bindings::new(); placement.devices.len()];
        let mut done = 0;
        progress(done, total);
        for (i, slot) in slots() {
            let (Some(device), Some(bound)) = (placement.devices.get(i), weights.get_mut(i)) else {
                continue;
            };
            let tensor = file.tensor(&slot.name)?;
            let owner: Arc<dyn Any + Send + Sync> = Arc::new(file.clone());
            let source = WeightSource {
                bytes: tensor.bytes,
                owner: Some(owner),
            };
            let loaded = device.load_weight(slot, source);
            let buffer = loaded.map_err(|source| ModelError::Weight {
                tensor: slot.name.clone(),
                source,
            })?;
            bound.insert(&slot.name, buffer);
            done += slot.bytes;
            progress(done, total);
        }
        tracing::info!(
            weights = slots().count(),
            bytes = total,
            arch = architecture.name(),
            "model loaded"
        );
        Ok(Arc::new(Self {
            file,
            architecture,
            tokenizer,
            placement,
            weights,
            weight_bytes: total,
            options,
        }))
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Architecture and sizes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The devices, and what lies where on them.
    pub const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The devices of the placement.
    pub fn devices(&self) -> &[Arc<dyn Device>] {
        &self.placement.devices
    }

    /// Bytes of the weights as the devices keep them.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The file has no vocabulary.
    pub fn tokenizer(&self) -> Result<&Tokenizer, SessionError> {
        self.tokenizer.as_ref().ok_or(SessionError::Lacks {
            what: "vocabulary",
            way_out: "give token ids instead of text",
        })
    }

    /// The chat template.
    ///
    /// # Errors
    /// The file has none, or it is not a valid template.
    pub fn chat_template(&self) -> Result<ChatTemplate, SessionError> {
        let tokenizer = self.tokenizer()?;
        let source = self
            .file
            .metadata()
            .get::<&str>("tokenizer.chat_template")
            .ok()
            .flatten();
        let source = source.ok_or(SessionError::Lacks {
            what: "chat template",
            way_out: "use it for plain text (ggrs run --raw)",
        })?;
        let text = |id: Option<u32>| id.map(|id| tokenizer.decode(&[id])).transpose();
        let (bos, eos) = (text(tokenizer.bos())?, text(tokenizer.eos())?);
        ChatTemplate::new(source, bos.as_deref(), eos.as_deref()).map_err(|e: ChatError| e.into())
    }

    /// The weights as loaded.
    pub(crate) fn weights(&self) -> &[Bindings] {
        &self.weights
    }

    /// How its graphs are planned.
    pub(crate) fn plan_options(&self) -> &PlanOptions {
        &self.options
    }

    /// The graph of one step with symbols for tokens and rows of logits: for planning and for looking at.
    ///
    /// # Errors
    /// Those of building the graph.
    pub fn graph(&self, shape: &StepShape) -> Result<Graph, ModelError> {
        self.architecture.graph(&self.file, shape)
    }
}

impl WeightFile for Model {
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.file.tensor(name).ok().map(|t| t.bytes)
    }
}
