//! The settings of a sampler and their ranges. Knows nothing of how they are applied.

use ggrs_core::sampling::SampleSettings;

use super::SamplerConfigError;

/// How the next token is chosen. The default is greedy: the most probable token, always.
///
/// The stages run in this order, as in llama.cpp, each on what the one before it left:
/// 1. `repetition_penalty`, `presence_penalty` and `frequency_penalty`, over the last
///    `repetition_window` tokens;
/// 2. `top_k`;
/// 3. `top_p`, of the probabilities at temperature 1;
/// 4. `min_p`, likewise;
/// 5. `temperature`, and the draw. At 0 the best token is taken instead, which stages 2 to 4 never
///    remove.
///
/// Tokens with equal logits rank by id, the lower one first.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Divides the logits before the draw: below 1 sharper, above 1 flatter; from 0 up. 0 is
    /// greedy, and the default.
    pub temperature: f32,
    /// Keeps this many of the most probable tokens; 0, the default, keeps all.
    pub top_k: usize,
    /// Keeps the fewest most probable tokens whose probabilities sum up to this; above 0, up to 1.
    /// 1, the default, keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this probable, relative to the most probable one; from 0 to 1. 0, the
    /// default, keeps all.
    pub min_p: f32,
    /// Divides positive logits of recent tokens and multiplies negative ones; above 0. 1, the
    /// default, changes nothing.
    pub repetition_penalty: f32,
    /// Taken from the logits of recent tokens. 0, the default, changes nothing.
    pub presence_penalty: f32,
    /// Taken from the logits of recent tokens for every time that they occur. 0, the default,
    /// changes nothing.
    pub frequency_penalty: f32,
    /// How many of the last accepted tokens count as recent; 64 by default.
    pub repetition_window: usize,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_window: 64,
        }
    }
}

impl SamplerConfig {
    pub(super) fn check(&self) -> Result<(), SamplerConfigError> {
        let temperature = self.temperature;
        let penalty = self.repetition_penalty;
        let (presence, frequency) = (self.presence_penalty, self.frequency_penalty);
        for (field, value, is_allowed, allowed) in [
            (
                "temperature",
                temperature,
                temperature >= 0.0 && temperature.is_finite(),
                "a finite number from 0 up (0 takes the most probable token)",
            ),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "above 0 and up to 1 (1 turns it off)",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "from 0 to 1 (0 turns it off)",
            ),
            (
                "repetition_penalty",
                penalty,
                penalty > 0.0 && penalty.is_finite(),
                "a finite number above 0 (1 turns it off)",
            ),
            (
                "presence_penalty",
                presence,
                presence.is_finite(),
                "a finite number (0 turns it off)",
            ),
            (
                "frequency_penalty",
                frequency,
                frequency.is_finite(),
                "a finite number (0 turns it off)",
            ),
        ] {
            if !is_allowed {
                return Err(SamplerConfigError::OutOfRange {
                    field,
                    value,
                    allowed,
                });
            }
        }
        Ok(())
    }

    /// The same as the op takes them.
    pub(crate) fn settings(&self) -> SampleSettings {
        SampleSettings {
            temperature: self.temperature,
            top_k: self.top_k as f32,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition: self.repetition_penalty,
            presence: self.presence_penalty,
            frequency: self.frequency_penalty,
            window: self.repetition_window as f32,
        }
    }
}
