//! How the pairs of rotary position embedding turn: frequencies, YaRN scaling, and which position turns a pair.
//!
//! Formulas: RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071) with ggml's parameters.

use std::f64::consts::PI;

use crate::ops::{Rope, RopeMode};

/// One pair of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopePair {
    /// Radians per position.
    pub turn: f64,
    /// Which row of positions turns it; below [`RopeMode::position_rows`].
    pub row: u8,
}

impl Rope {
    /// How each of the `n_rot / 2` pairs turns, before frequency factors divide.
    pub fn pairs(&self) -> impl Iterator<Item = RopePair> + '_ {
        let (freq_scale, ext_factor) = (
            f64::from(self.yarn.freq_scale.0),
            f64::from(self.yarn.ext_factor.0),
        );
        let (base, n_rot) = (f64::from(self.base.0), self.n_rot as f64);
        (0..self.n_rot / 2).map(move |i| {
            let frequency = base.powf(-2.0 * i as f64 / n_rot);
            // Interpolated, and as it was: a share of both.
            let share = if ext_factor == 0.0 {
                0.0
            } else {
                self.kept_share(i) * ext_factor
            };
            RopePair {
                turn: frequency * (freq_scale * (1.0 - share) + share),
                row: self.mode.position_row(i),
            }
        })
    }

    /// The factor of cosines and sines.
    pub fn magnitude(&self) -> f64 {
        let attn_factor = f64::from(self.yarn.attn_factor.0);
        if self.yarn.ext_factor.0 == 0.0 {
            return attn_factor;
        }
        attn_factor * (1.0 + 0.1 * (1.0 / f64::from(self.yarn.freq_scale.0)).ln())
    }

    /// YaRN's ramp: 1 for pairs that turn fast and are kept, 0 for those that turn slowly, linear between.
    fn kept_share(&self, pair: usize) -> f64 {
        // The (fractional) pair that makes this many turns over the original context.
        let pair_that_turns = |turns: f32| {
            let wavelength = self.yarn.n_ctx_orig as f64 / f64::from(turns);
            let base = f64::from(self.base.0).ln();
            self.n_rot as f64 * (wavelength / (2.0 * PI)).ln() / (2.0 * base)
        };
        let low = pair_that_turns(self.yarn.beta_fast.0).floor().max(0.0);
        let high = pair_that_turns(self.yarn.beta_slow.0)
            .ceil()
            .min(self.n_rot as f64 - 1.0);
        1.0 - ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
    }
}

impl RopeMode {
    /// The row of positions that turns a pair.
    fn position_row(self, pair: usize) -> u8 {
        let at = |s: [usize; 4]| pair % s.iter().sum::<usize>().max(1);
        match self {
            Self::Normal | Self::Neox => 0,
            Self::Multi(s @ [a, b, c, _]) => {
                let at = at(s);
                u8::from(at >= a) + u8::from(at >= a + b) + u8::from(at >= a + b + c)
            }
            Self::Interleaved(s @ [a, b, c, _]) => {
                let at = at(s);
                let (row, n) = match at % 3 {
                    0 => (0, a),
                    1 => (1, b),
                    _ => (2, c),
                };
                if at < 3 * n { row } else { 3 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(mode: RopeMode, n: usize) -> Vec<u8> {
        (0..n).map(|i| mode.position_row(i)).collect()
    }

    /// As mrope lays its sections out: one after another, and over again; interleaved until a section is used up.
    #[test]
    fn sections_choose_the_row_of_a_pair() {
        let sections = [2, 1, 0, 1];
        let multi = rows(RopeMode::Multi(sections), 6);
        assert_eq!(multi, [0, 0, 1, 3, 0, 0]);
        let interleaved = rows(RopeMode::Interleaved([2, 2, 1, 1]), 7);
        assert_eq!(interleaved, [0, 1, 2, 0, 1, 3, 0]);
        assert_eq!(rows(RopeMode::Neox, 2), [0, 0]);
    }
}
