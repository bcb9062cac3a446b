//! The sampler: settings, a seeded generator and the recent tokens. Knows no model and no text.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::candidates::{Candidate, best, draw, keep_min_p, keep_top_k, keep_top_p, weigh};
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
    rng: ChaCha8Rng,
    /// The last accepted tokens, oldest first; empty if they don't count.
    recent: VecDeque<TokenId>,
    /// Kept between calls for its memory.
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler that has accepted nothing yet.
    ///
    /// # Errors
    /// A setting is outside its range.
    pub fn new(config: SamplerConfig, seed: u64) -> Result<Self, SamplerConfigError> {
        config.check()?;
        Ok(Self {
            config,
            rng: ChaCha8Rng::seed_from_u64(seed),
            recent: VecDeque::new(),
            candidates: Vec::new(),
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
        for (id, &value) in (0..).zip(logits) {
            if value.is_nan() || value == f32::INFINITY {
                return Err(SampleError::BadLogit { id, value });
            }
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(
            (0..)
                .zip(logits)
                .map(|(id, &logit)| Candidate::new(id, f64::from(logit))),
        );
        let penalty = f64::from(self.config.repetition_penalty);
        for &id in &self.recent {
            let idx = id as usize;
            let (Some(candidate), Some(&logit)) = (candidates.get_mut(idx), logits.get(idx)) else {
                let n_logits = logits.len();
                return Err(SampleError::AcceptedOutOfRange { id, n_logits });
            };
            // From the logit as given: a token that occurs twice is penalized once.
            candidate.logit = penalized(f64::from(logit), penalty);
        }
        candidates.retain(|candidate| candidate.logit > f64::NEG_INFINITY);

        let chosen = if self.config.temperature == 0.0 {
            best(candidates)
        } else {
            narrow(candidates, &self.config);
            weigh(candidates, f64::from(self.config.temperature));
            // 53 bits are all that fit between 0 and 1 at equal distances.
            let point = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            draw(candidates, point)
        };
        let n_logits = logits.len();
        chosen
            .map(|candidate| candidate.id)
            .ok_or(SampleError::AllMasked { n_logits })
    }

    /// Tells the sampler that a token is now part of the text, for the repetition penalty. Tokens
    /// of the prompt count too if they are accepted.
    pub fn accept(&mut self, id: TokenId) {
        if self.config.penalizes() {
            if self.recent.len() == self.config.repetition_window {
                self.recent.pop_front();
            }
            self.recent.push_back(id);
        }
    }
}

fn penalized(logit: f64, penalty: f64) -> f64 {
    if logit > 0.0 {
        logit / penalty
    } else {
        logit * penalty
    }
}

/// Stages 2 to 4 of [`SamplerConfig`].
fn narrow(candidates: &mut Vec<Candidate>, config: &SamplerConfig) {
    if config.top_k > 0 {
        keep_top_k(candidates, config.top_k);
    }
    if config.top_p < 1.0 || config.min_p > 0.0 {
        weigh(candidates, 1.0);
    }
    if config.top_p < 1.0 {
        keep_top_p(candidates, f64::from(config.top_p));
    }
    if config.min_p > 0.0 {
        keep_min_p(candidates, f64::from(config.min_p));
    }
}
