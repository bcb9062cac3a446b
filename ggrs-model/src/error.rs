//! Errors of loading a model and of using it.

use std::path::PathBuf;

use ggrs_core::{BindError, DType, DeviceError, ExecError, GraphError, TensorDesc};
use ggrs_sched::SchedError;

use crate::chat::ChatError;
use crate::gguf::GgufError;
use crate::sampling::SampleError;
use crate::session::{SlotId, StateFileError};
use crate::tokenizer::{TokenId, TokenizerError};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read, or lacks something.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An architecture that GGRS does not build.
    #[error("{}: architecture \"{found}\" is not supported; supported: {}", path.display(), known.join(", "))]
    UnknownArchitecture {
        /// The file.
        path: PathBuf,
        /// What `general.architecture` says.
        found: String,
        /// What would be.
        known: &'static [&'static str],
    },
    /// A metadata value that cannot be.
    #[error("{}: {key} = {found} is not possible: it must be {rule}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// Its value.
        found: u64,
        /// The rule in words.
        rule: &'static str,
    },
    /// A tensor of another shape than the metadata implies.
    #[error("{}: tensor \"{tensor}\" has shape {found:?}, the model's metadata implies {expected:?}", path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the metadata implies, outermost axis first.
        expected: Vec<usize>,
        /// What the file says.
        found: Vec<usize>,
    },
    /// A tensor of a type that it cannot have.
    #[error("{}: tensor \"{tensor}\" has type {found}, it must be {expected}", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What it may be.
        expected: &'static str,
        /// Its type.
        found: DType,
    },
    /// The vocabulary cannot be used.
    #[error("{}: the tokenizer cannot be built", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TokenizerError,
    },
    /// The model's graph cannot be built from this file.
    #[error("the model's graph cannot be built")]
    Graph(#[from] GraphError),
    /// The model's graph has no plan.
    #[error("the model cannot be planned")]
    Plan(#[from] SchedError),
    /// Memory does not fit the plan.
    #[error("the model's memory cannot be bound")]
    Bind(#[from] BindError),
    /// The device failed.
    #[error("weight \"{tensor}\" cannot be loaded")]
    Weight {
        /// The weight.
        tensor: String,
        /// What the device said.
        source: DeviceError,
    },
}

/// Why a session cannot be opened or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A setting outside its range.
    #[error("{setting} = {got} is not possible: it must be {rule}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        got: usize,
        /// The rule in words.
        rule: String,
    },
    /// A dtype that keys and values cannot be kept as.
    #[error(
        "the KV type (--kv-type) cannot be {found}: it must be one of {}",
        possible.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")
    )]
    KvType {
        /// The type asked for.
        found: DType,
        /// What there is.
        possible: &'static [DType],
    },
    /// The KV cache does not fit.
    #[error(
        "the KV cache of {n_ctx} tokens ({kv}) needs {bytes} bytes; ask for a shorter context (--ctx) or a smaller KV type (--kv-type q8_0)"
    )]
    Context {
        /// Tokens asked for, of all slots.
        n_ctx: usize,
        /// Its type.
        kv: DType,
        /// Bytes it takes in all.
        bytes: u64,
        /// What the device said.
        source: DeviceError,
    },
    /// More tokens than the context has room for.
    #[error(
        "{n_tokens} more tokens do not fit: the context holds {n_ctx}, {used} are used; ask for a longer context (--ctx) or a shorter prompt"
    )]
    ContextFull {
        /// Tokens to add.
        n_tokens: usize,
        /// Tokens in the context.
        used: usize,
        /// Room in all.
        n_ctx: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} at position {position} is outside the vocabulary of {n_vocab}")]
    TokenRange {
        /// The id.
        id: TokenId,
        /// Where it stands among the tokens given.
        position: usize,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// Nothing to do.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// A slot that is not there.
    #[error(
        "there is no {slot}: the session has {n_slots}, counted from 0; open it with more slots"
    )]
    NoSuchSlot {
        /// The slot asked for.
        slot: SlotId,
        /// How many there are.
        n_slots: usize,
    },
    /// Tokens for one slot in two parts of a step.
    #[error("{slot} is given twice in one step; join its tokens")]
    SlotTwice {
        /// The slot.
        slot: SlotId,
    },
    /// Every slot is busy.
    #[error("all {n_slots} slots are busy; release one or open the session with more")]
    NoIdleSlot {
        /// How many there are.
        n_slots: usize,
    },
    /// A checkpoint before which tokens were forgotten.
    #[error(
        "the checkpoint at position {position} of {slot} is gone: tokens before it were forgotten since, the slot has {n_tokens} now; prefill the prompt again"
    )]
    CheckpointGone {
        /// The slot.
        slot: SlotId,
        /// Tokens before the checkpoint.
        position: usize,
        /// Tokens in the slot.
        n_tokens: usize,
    },
    /// A prompt that the prompt cache cannot hold.
    #[error(
        "a prompt of {n_tokens} tokens takes {bytes} bytes of the prompt cache, which holds {budget_bytes} in all; open the session with a larger one"
    )]
    PromptCacheBudget {
        /// Its tokens.
        n_tokens: usize,
        /// Bytes it takes.
        bytes: u64,
        /// Bytes that the cache may hold.
        budget_bytes: u64,
    },
    /// A state that cannot be kept by position.
    #[error("state \"{state}\" is {found}, not one row for each of the {n_cells} cells")]
    StateRows {
        /// The state.
        state: String,
        /// What it is.
        found: Box<TensorDesc>,
        /// Cells of the KV cache.
        n_cells: usize,
    },
    /// A state file.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The model has no vocabulary, or no template for chats.
    #[error("the model has no {what}; {way_out}")]
    Lacks {
        /// What it lacks.
        what: &'static str,
        /// What the user can do.
        way_out: &'static str,
    },
    /// Text and ids.
    #[error("the text cannot be turned into tokens or back")]
    Tokenizer(#[from] TokenizerError),
    /// The chat template refused the messages.
    #[error("the chat template cannot render the messages")]
    Chat(#[from] ChatError),
    /// No token could be chosen.
    #[error("no token can be chosen")]
    Sample(#[from] SampleError),
    /// The graph for this many tokens cannot be built.
    #[error("the graph for {n_tokens} tokens cannot be built")]
    Graph {
        /// Tokens of the step.
        n_tokens: usize,
        /// Why.
        source: GraphError,
    },
    /// The step has no plan.
    #[error("a step of {n_tokens} tokens cannot be planned")]
    Plan {
        /// Tokens of the step.
        n_tokens: usize,
        /// Why.
        source: SchedError,
    },
    /// Memory for the step is not there.
    #[error("a step of {n_tokens} tokens cannot be prepared")]
    Bind {
        /// Tokens of the step.
        n_tokens: usize,
        /// Why.
        source: BindError,
    },
    /// The run failed.
    #[error("the model's run failed")]
    Exec(#[from] ExecError),
}
