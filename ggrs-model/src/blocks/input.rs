//! What a step takes (tokens with their positions and slots, the page table) and what it makes of logits: for a step of
//! the host, or for one that goes on by itself.

use ggrs_core::ops::Sample;
use ggrs_core::sampling::SampleSettings;
use ggrs_core::{DType, Graph, GraphBuilder, GraphError, Pages, Role, RoleKind, Value};

use crate::arch::StepShape;

/// Names of inputs, states and outputs.
pub(crate) mod names {
    pub(crate) const TOKENS: &str = "tokens";
    pub(crate) const POSITIONS: &str = "positions";
    pub(crate) const SLOTS: &str = "slots";
    pub(crate) const PAGE_TABLE: &str = "page_table";
    pub(crate) const OUT_ROWS: &str = "out_rows";
    pub(crate) const LOGITS: &str = "logits";
    /// The state of a step that goes on by itself, and how it does.
    pub(crate) const CURSOR: &str = "cursor";
    pub(crate) const SETTINGS: &str = "settings";
    pub(crate) const SEEDS: &str = "seeds";
    /// The tokens that it chose.
    pub(crate) const NEXT: &str = "next";
    /// The symbol of tokens per step.
    pub(crate) const N_TOKENS: &str = "n_tokens";
    /// The symbol of rows with logits.
    pub(crate) const N_OUT: &str = "n_out";
}

/// Tokens that a cursor remembers of each sequence.
pub(crate) const N_RECENT: usize = 256;

/// The inputs of a step.
#[derive(Clone, Copy)]
pub(crate) struct StepInputs {
    /// Token ids, I32 `[T]`.
    pub(crate) tokens: Value,
    /// Where the tokens lie.
    pub(crate) pages: Pages,
    end: End,
}

/// What becomes of logits.
#[derive(Clone, Copy)]
enum End {
    /// The host gets those of these rows, I32 `[O]`.
    Rows(Value),
    /// They choose the tokens of the next step: cursor, settings, seeds.
    Choice([Value; 3]),
}

impl StepInputs {
    pub(crate) fn declare(graph: &mut GraphBuilder, shape: &StepShape) -> Result<Self, GraphError> {
        let (places, end) = match shape.decode {
            None => {
                let n_tokens = graph.symbol(names::N_TOKENS, shape.max_tokens.max(2))?;
                let n_out = graph.symbol(names::N_OUT, shape.max_tokens.max(2))?;
                let mut input = |name: &str| graph.input(name, DType::I32, [n_tokens]);
                let tokens = input(names::TOKENS)?;
                let places = [tokens, input(names::POSITIONS)?, input(names::SLOTS)?];
                let out_rows = graph.input(names::OUT_ROWS, DType::I32, [n_out])?;
                (places, End::Rows(out_rows))
            }
            Some(n) => {
                let cursor =
                    graph.state(names::CURSOR, DType::I32, [Sample::RING + N_RECENT, n])?;
                // With the head, whose logits move it.
                graph.describe(cursor, Role::new(RoleKind::Output))?;
                let settings = [n, SampleSettings::N];
                let settings = graph.input(names::SETTINGS, DType::F32, settings)?;
                let seeds = graph.input(names::SEEDS, DType::I64, [n])?;
                // A copy, which may go to other devices.
                let now = graph.slice(cursor, 0, 0, Sample::DRAWS)?;
                let now = graph.contiguous(now)?;
                let mut row = |i: usize| {
                    let row = graph.slice(now, 0, i, 1)?;
                    graph.reshape(row, [n])
                };
                let places = [
                    row(Sample::TOKEN)?,
                    row(Sample::POSITION)?,
                    row(Sample::SLOT)?,
                ];
                (places, End::Choice([cursor, settings, seeds]))
            }
        };
        let [tokens, positions, slots] = places;
        let table = [shape.n_slots, shape.n_blocks];
        Ok(Self {
            tokens,
            pages: Pages {
                positions,
                slots,
                table: graph.input(names::PAGE_TABLE, DType::I32, table)?,
            },
            end,
        })
    }

    /// Of rows `[T, ..]`, one for each token, those whose logits are wanted.
    pub(crate) fn wanted(
        &self,
        graph: &mut GraphBuilder,
        rows: Value,
    ) -> Result<Value, GraphError> {
        match self.end {
            End::Rows(out_rows) => graph.get_rows(rows, out_rows),
            End::Choice(_) => Ok(rows),
        }
    }

    /// Ends the graph of a step with the logits of the wanted rows.
    pub(crate) fn finish(
        &self,
        mut graph: GraphBuilder,
        logits: Value,
    ) -> Result<Graph, GraphError> {
        graph.output(names::LOGITS, logits)?;
        if let End::Choice([cursor, settings, seeds]) = self.end {
            let next = graph.sample(cursor, logits, settings, seeds)?;
            let tokens = graph.slice(next, 0, Sample::TOKEN, 1)?;
            graph.output(names::NEXT, tokens)?;
        }
        graph.seal()
    }
}
