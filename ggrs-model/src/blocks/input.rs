//! What a step takes: tokens with their positions and slots, the page table, the rows whose logits are wanted.

use ggrs_core::{DType, GraphBuilder, GraphError, Pages, Value};

use crate::arch::StepShape;

/// Names of the inputs and of the output.
pub(crate) mod names {
    pub(crate) const TOKENS: &str = "tokens";
    pub(crate) const POSITIONS: &str = "positions";
    pub(crate) const SLOTS: &str = "slots";
    pub(crate) const PAGE_TABLE: &str = "page_table";
    pub(crate) const OUT_ROWS: &str = "out_rows";
    pub(crate) const LOGITS: &str = "logits";
    /// The symbol of tokens per step.
    pub(crate) const N_TOKENS: &str = "n_tokens";
    /// The symbol of rows with logits.
    pub(crate) const N_OUT: &str = "n_out";
}

/// The inputs of a step.
#[derive(Clone, Copy)]
pub(crate) struct StepInputs {
    /// Token ids, I32 `[T]`.
    pub(crate) tokens: Value,
    /// Where the tokens lie.
    pub(crate) pages: Pages,
    /// Rows whose logits are wanted, I32 `[O]`.
    pub(crate) out_rows: Value,
}

impl StepInputs {
    pub(crate) fn declare(graph: &mut GraphBuilder, shape: &StepShape) -> Result<Self, GraphError> {
        let n_tokens = graph.symbol(names::N_TOKENS, shape.max_tokens.max(2))?;
        let n_out = graph.symbol(names::N_OUT, shape.max_tokens.max(2))?;
        Ok(Self {
            tokens: graph.input(names::TOKENS, DType::I32, [n_tokens])?,
            pages: Pages {
                positions: graph.input(names::POSITIONS, DType::I32, [n_tokens])?,
                slots: graph.input(names::SLOTS, DType::I32, [n_tokens])?,
                table: graph.input(
                    names::PAGE_TABLE,
                    DType::I32,
                    [shape.n_slots, shape.n_blocks],
                )?,
            },
            out_rows: graph.input(names::OUT_ROWS, DType::I32, [n_out])?,
        })
    }
}
