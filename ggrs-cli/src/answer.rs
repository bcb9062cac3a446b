//! An answer as it comes: streamed to the console, with a bar for the prefill, and its timing.

use std::fmt;
use std::ops::ControlFlow;

use ggrs_model::sampling::Sampler;
use ggrs_model::tokenizer::TokenId;
use ggrs_model::{Event, Finish, GenerateOptions, Generation, Session};
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::progress::Unit;
use crate::units::{Tokens, per_second};

/// What was generated, and how much of the prompt had to run.
pub(crate) struct Answer {
    pub(crate) generation: Generation,
    /// Tokens of the prompt that were not in the context already.
    n_prefilled: usize,
}

/// Generates an answer; `stream` says whether its text is shown as it comes.
pub(crate) fn answer(
    session: &mut Session,
    prompt: &[TokenId],
    sampler: &mut Sampler,
    limits: &GenerateOptions,
    stream: bool,
    console: &mut Console,
) -> Result<Answer, CliError> {
    let bar = console.bar("prefill", Unit::Tokens);
    bar.set_length(prompt.len() as u64);
    let mut n_prefilled = 0;
    let mut written = Ok(());
    let generation = session.generate(prompt, sampler, limits, &mut |event| match event {
        Event::Prefill(n) => {
            n_prefilled = n;
            bar.set_position(n as u64);
            ControlFlow::Continue(())
        }
        Event::Text(text) => {
            bar.finish_and_clear();
            if stream {
                written = console.text(text);
            }
            if written.is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    });
    bar.finish_and_clear();
    written?;
    let generation = generation?;
    if stream && !generation.text.ends_with('\n') {
        console.text("\n")?;
    }
    if generation.finish == Finish::ContextFull {
        tracing::warn!(
            "the answer ends because the context of {} tokens is full; ask for a longer one (--ctx)",
            session.n_ctx()
        );
    }
    Ok(Answer {
        generation,
        n_prefilled,
    })
}

impl Answer {
    fn prefill_speed(&self) -> f64 {
        per_second(self.n_prefilled, self.generation.prefill)
    }

    fn decode_speed(&self) -> f64 {
        per_second(self.generation.n_decode, self.generation.decode)
    }

    /// Everything about the answer, for programs. Times are in seconds.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let g = &self.generation;
        let finish = match g.finish {
            Finish::EndOfGeneration => "end_of_generation",
            Finish::Stop => "stop",
            Finish::MaxTokens => "max_tokens",
            Finish::ContextFull => "context_full",
            Finish::Caller => "interrupted",
        };
        json!({
            "text": g.text,
            "tokens": g.tokens,
            "finish": finish,
            "n_prompt": g.n_prompt,
            "n_prefill": self.n_prefilled,
            "prefill_seconds": g.prefill.as_secs_f64(),
            "prefill_tokens_per_second": self.prefill_speed(),
            "n_decode": g.n_decode,
            "decode_seconds": g.decode.as_secs_f64(),
            "decode_tokens_per_second": self.decode_speed(),
        })
    }
}

/// The timing, in one line.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "prompt: {}, {:.1} t/s",
            Tokens(self.n_prefilled),
            self.prefill_speed()
        )?;
        write!(f, "; answer: {}", Tokens(self.generation.tokens.len()))?;
        // The first token comes from the prompt's logits: a single one took no step.
        if self.generation.n_decode > 0 {
            write!(f, ", {:.1} t/s", self.decode_speed())?;
        }
        Ok(())
    }
}
