//! The sampler: settings, a seed with the draws so far, and the recent tokens. Knows no model and no text.

use std::collections::VecDeque;

use ggrs_core::sampling::{NoChoice, SampleSettings, choose, random};

use super::{SampleError, SamplerConfig, SamplerConfigError};
use crate::tokenizer::TokenId;

/// Chooses tokens from logits. Equal settings, seeds, accepted tokens and logits give equal
/// choices, on every platform.
///
/// ```
/// # use ggrs_model::sampling::{Sampler, SamplerConfig};
/// let config = SamplerConfig { temperature: 0.8, top_k: 2, ..SamplerConfig::default() };
/// let mut sampler = Sampler::new(config, 42)?;
/// let id = sampler.sample(&[0.5, 2.0, -1.0, 1.5])?;
/// assert!(id == 1 || id == 3);
/// sampler.accept(id);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    settings: SampleSettings,
    seed: u64,
    /// Tokens chosen so far.
    n_draws: u32,
    /// The last accepted tokens, oldest first; empty if they don't count.
    recent: VecDeque<TokenId>,
    /// Kept between calls for its memory.
    keys: Vec<u64>,
}

impl Sampler {
    /// A sampler that has accepted nothing yet.
    ///
    /// # Errors
    /// A setting is outside its range.
    pub fn new(config: SamplerConfig, seed: u64) -> Result<Self, SamplerConfigError> {
        config.check()?;
        Ok(Self {
            settings: config.settings(),
            config,
            seed,
            n_draws: 0,
            recent: VecDeque::new(),
            keys: Vec::new(),
        })
    }

    /// Chooses the next token, `logits[id]` being the logit of token `id`. A logit of -inf forbids
    /// its token. Does not accept the token: the caller may want another one.
    ///
    /// # Errors
    /// There is no logit, all are -inf, or one is NaN or +inf.
    pub fn sample(&mut self, logits: &[f32]) -> Result<TokenId, SampleError> {
        if logits.is_empty() {
            return Err(SampleError::NoLogits);
        }
        let chosen = self.choose(logits)?;
        self.n_draws = self.n_draws.wrapping_add(1);
        Ok(chosen)
    }

    /// The token that [`Sampler::sample`] would choose.
    pub(crate) fn choose(&mut self, logits: &[f32]) -> Result<TokenId, SampleError> {
        let n_logits = logits.len();
        self.check_accepted(n_logits)?;
        self.keys.resize(n_logits, 0);
        let recent = self.recent.iter().map(|id| *id as i32);
        let random = random(self.seed, self.n_draws);
        let chosen = choose(logits, recent, &self.settings, random, &mut self.keys);
        let chosen = chosen.map_err(|reason| match reason {
            NoChoice::BadLogit(id) => SampleError::BadLogit {
                id: id as TokenId,
                value: logits.get(id).copied().unwrap_or(f32::NAN),
            },
            NoChoice::AllMasked => SampleError::AllMasked { n_logits },
        })?;
        Ok(chosen as TokenId)
    }

    /// Tells the sampler that a token is now part of the text, for the penalties. Tokens
    /// of the prompt count too if they are accepted.
    pub fn accept(&mut self, id: TokenId) {
        self.recent.push_back(id);
        if self.recent.len() > self.n_recent() {
            self.recent.pop_front();
        }
    }

    /// Accepts a token that was chosen as [`Sampler::sample`] would have.
    pub(crate) fn accept_drawn(&mut self, id: TokenId) {
        self.n_draws = self.n_draws.wrapping_add(1);
        self.accept(id);
    }

    /// Are all accepted tokens below `n_vocab`?
    pub(crate) fn check_accepted(&self, n_vocab: usize) -> Result<(), SampleError> {
        match self.recent.iter().find(|id| **id as usize >= n_vocab) {
            Some(&id) => Err(SampleError::AcceptedOutOfRange {
                id,
                n_logits: n_vocab,
            }),
            None => Ok(()),
        }
    }

    /// The settings as a device takes them.
    pub(crate) const fn settings(&self) -> &SampleSettings {
        &self.settings
    }

    /// The seed, and the tokens chosen so far.
    pub(crate) const fn draws(&self) -> (u64, u32) {
        (self.seed, self.n_draws)
    }

    /// How many accepted tokens count at most.
    pub(crate) fn n_recent(&self) -> usize {
        if self.settings.penalise() {
            self.config.repetition_window
        } else {
            0
        }
    }

    /// The accepted tokens that count, the last one first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = TokenId> {
        self.recent.iter().rev().copied()
    }
}
