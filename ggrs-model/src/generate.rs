//! Generation: prefill, then one token after another until the model ends, a limit is reached or the caller stops.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::error::SessionError;
use crate::sampling::Sampler;
use crate::session::{Session, Slot};
use crate::tokenizer::{TokenId, Utf8Stream};

/// Limits of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateOptions {
    /// The most tokens; `None` for as many as the context holds.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Go on after a token that ends an answer.
    pub ignore_eos: bool,
}

/// What a generation tells its caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// Prompt tokens done so far.
    Prefill(usize),
    /// The next piece of text; always whole characters.
    Text(&'a str),
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer.
    EndOfGeneration,
    /// A stop text appeared.
    Stop,
    /// The most tokens were made.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The caller broke off.
    Caller,
}

/// What was generated, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The answer's text.
    pub text: String,
    /// Its tokens, without one that ended it.
    pub tokens: Vec<TokenId>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Time of the prefill.
    pub prefill: Duration,
    /// Steps of the decode.
    pub n_decode: usize,
    /// Time of the decode.
    pub decode: Duration,
}

/// Text that streams out while it may still turn into a stop text.
struct StopFilter<'a> {
    stop: &'a [String],
    text: String,
    /// Bytes of `text` that were given out.
    given: usize,
}

impl StopFilter<'_> {
    /// Adds text; whether a stop text appeared. What precedes it is kept, the rest cut.
    fn push(&mut self, piece: &str) -> bool {
        self.text.push_str(piece);
        let found = self
            .stop
            .iter()
            .filter(|s| !s.is_empty())
            .filter_map(|s| self.text.find(s.as_str()))
            .min();
        if let Some(at) = found {
            self.text.truncate(at);
        }
        found.is_some()
    }

    /// The text that no stop text can claim any more.
    fn ready(&mut self, all: bool) -> &str {
        let mut end = self.text.len();
        if !all {
            // The longest end of the text that begins a stop text stays back.
            let held = |s: &String| {
                let cuts = s.char_indices().map(|(i, _)| i).filter(|i| *i > 0);
                cuts.filter_map(|i| s.get(..i))
                    .filter(|part| self.text.ends_with(part))
                    .map(str::len)
                    .max()
            };
            end -= self.stop.iter().filter_map(held).max().unwrap_or(0);
        }
        let start = self.given.min(end);
        self.given = end.max(start);
        self.text.get(start..end).unwrap_or_default()
    }
}

impl Session {
    /// [`Slot::generate`] in the first slot.
    ///
    /// # Errors
    /// Those of [`Slot::generate`].
    pub fn generate(
        &mut self,
        prompt: &[TokenId],
        sampler: &mut Sampler,
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, SessionError> {
        self.first().generate(prompt, sampler, options, on_event)
    }
}

impl Slot<'_> {
    /// Makes the context `prompt` (reusing what it shares with the tokens there) and generates. `on_event` hears of
    /// the prefill's progress and of the text as it comes; it may break off.
    ///
    /// # Errors
    /// Those of [`Slot::feed`]; logits from which no token can be chosen.
    pub fn generate(
        &mut self,
        prompt: &[TokenId],
        sampler: &mut Sampler,
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation, SessionError> {
        let start = Instant::now();
        let logits = self.prefill(prompt, &mut |n| {
            // A prefill in parts is not broken off: the session would hold half a prompt.
            let _ = on_event(Event::Prefill(n));
        })?;
        let prefill = start.elapsed();
        for id in prompt {
            sampler.accept(*id);
        }

        let model = std::sync::Arc::clone(self.session().model());
        let tokenizer = model.tokenizer().ok();
        let mut stream = Utf8Stream::default();
        let mut filter = StopFilter {
            stop: &options.stop,
            text: String::new(),
            given: 0,
        };
        let mut tokens = Vec::new();
        let mut n_decode = 0;
        let start = Instant::now();
        let finish = loop {
            if options.max_tokens.is_some_and(|max| tokens.len() >= max) {
                break Finish::MaxTokens;
            }
            let id = match tokens.last() {
                // The prompt's logits are here already.
                None => {
                    let id = sampler.sample(&logits)?;
                    sampler.accept(id);
                    id
                }
                Some(last) => {
                    n_decode += 1;
                    self.decode(*last, sampler)?
                }
            };
            if !options.ignore_eos && tokenizer.is_some_and(|t| t.is_end_of_generation(id)) {
                break Finish::EndOfGeneration;
            }
            tokens.push(id);
            // Control tokens steer the model; they are not text.
            if let Some(t) = tokenizer.filter(|t| !t.is_control(id)) {
                let stopped = filter.push(&stream.push(t.token_bytes(id)?));
                let ready = filter.ready(stopped);
                let flow = if ready.is_empty() {
                    ControlFlow::Continue(())
                } else {
                    on_event(Event::Text(ready))
                };
                if stopped {
                    break Finish::Stop;
                }
                if flow.is_break() {
                    break Finish::Caller;
                }
            }
            if self.tokens().len() >= self.session().n_ctx() {
                break Finish::ContextFull;
            }
        };
        if finish != Finish::Stop {
            filter.push(&stream.finish());
            let rest = filter.ready(true);
            if !rest.is_empty() {
                let _ = on_event(Event::Text(rest));
            }
        }
        let decode = start.elapsed();
        Ok(Generation {
            text: filter.text,
            tokens,
            finish,
            n_prompt: prompt.len(),
            prefill,
            n_decode,
            decode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::StopFilter;

    #[test]
    fn text_that_may_become_a_stop_text_is_held_back() {
        let stop = ["<end>".to_owned(), "STOP".to_owned()];
        let mut f = StopFilter {
            stop: &stop,
            text: String::new(),
            given: 0,
        };
        assert!(!f.push("hello <e"));
        assert_eq!(f.ready(false), "hello ");
        assert!(!f.push("x"));
        assert_eq!(f.ready(false), "<ex");
        assert!(f.push(" a<end> b"));
        assert_eq!(f.ready(true), " a");
        assert_eq!(f.text, "hello <ex a");
    }
}
