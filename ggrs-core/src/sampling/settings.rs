//! The settings of one sequence's choices, as a row of the op's operand. Knows nothing of how they are applied.

/// How one sequence's next token is chosen; [`Sample`](crate::ops::Sample) says what each number does. Numbers outside
/// their range turn their stage off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleSettings {
    /// Divides the scores before the draw; the best token, always, unless it is above 0.
    pub temperature: f32,
    /// Keeps so many of the best tokens, if it is at least 1.
    pub top_k: f32,
    /// Keeps the fewest best tokens with this part of the probability, if it is below 1.
    pub top_p: f32,
    /// Keeps tokens at least so probable, relative to the best, if it is above 0.
    pub min_p: f32,
    /// Divides positive scores of recent tokens and multiplies others.
    pub repetition: f32,
    /// Taken from the scores of recent tokens once.
    pub presence: f32,
    /// Taken from the scores of recent tokens for every time that they occur.
    pub frequency: f32,
    /// How many of the last tokens are recent.
    pub window: f32,
}

impl SampleSettings {
    /// How many numbers they are.
    pub const N: usize = 8;

    /// As a row of the operand.
    pub const fn row(&self) -> [f32; Self::N] {
        [
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition,
            self.presence,
            self.frequency,
            self.window,
        ]
    }

    /// Do recent tokens change scores?
    pub fn penalise(&self) -> bool {
        (self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0)
            && self.window >= 1.0
    }
}

impl From<[f32; Self::N]> for SampleSettings {
    fn from(row: [f32; Self::N]) -> Self {
        let [
            temperature,
            top_k,
            top_p,
            min_p,
            repetition,
            presence,
            frequency,
            window,
        ] = row;
        Self {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition,
            presence,
            frequency,
            window,
        }
    }
}
