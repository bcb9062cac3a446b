//! How fast the pairs of rotary position embedding turn, and which position turns them. It must not know tensors.
//!
//! Formulas: RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071) with ggml's parameters.

use std::f64::consts::PI;

use ggrs_core::ops::{Rope, RopeMode};

/// One pair of elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Turns per position.
    pub(super) turns: f64,
    /// Which row of positions turns it.
    pub(super) row: u8,
}

impl Pair {
    /// The turns in 2^-64, without those that are whole.
    pub(super) fn wrapped(self) -> u64 {
        ((self.turns - self.turns.floor()) * 2f64.powi(64)) as u64
    }
}

/// All pairs of an op, and the factor of cosines and sines.
pub(super) fn pairs(op: &Rope) -> (Vec<Pair>, f32) {
    let yarn = &op.yarn;
    let (freq_scale, ext_factor) = (f64::from(yarn.freq_scale.0), f64::from(yarn.ext_factor.0));
    let (base, n_rot) = (f64::from(op.base.0), op.n_rot as f64);
    let mut magnitude = f64::from(yarn.attn_factor.0);
    if ext_factor != 0.0 {
        magnitude *= 1.0 + 0.1 * (1.0 / freq_scale).ln();
    }
    let pairs = (0..op.n_rot / 2).map(|i| {
        let frequency = base.powf(-2.0 * i as f64 / n_rot);
        // Interpolated, and as it was: a share of both.
        let share = if ext_factor == 0.0 {
            0.0
        } else {
            kept_share(op, i) * ext_factor
        };
        let scale = freq_scale * (1.0 - share) + share;
        Pair {
            turns: frequency * scale / (2.0 * PI),
            row: position_row(op.mode, i),
        }
    });
    (pairs.collect(), magnitude as f32)
}

/// The row of positions that turns a pair.
fn position_row(mode: RopeMode, pair: usize) -> u8 {
    let section = |s: [usize; 4]| pair % s.iter().sum::<usize>().max(1);
    match mode {
        RopeMode::Normal | RopeMode::Neox => 0,
        RopeMode::Multi(s @ [a, b, c, _]) => {
            let at = section(s);
            u8::from(at >= a) + u8::from(at >= a + b) + u8::from(at >= a + b + c)
        }
        RopeMode::Interleaved(s) => {
            let at = section(s);
            let (row, n) = match at % 3 {
                0 => (0, s[0]),
                1 => (1, s[1]),
                _ => (2, s[2]),
            };
            if at < 3 * n { row } else { 3 }
        }
    }
}

/// YaRN's ramp: 1 for pairs that turn fast and are kept, 0 for those that turn slowly, linear between.
fn kept_share(op: &Rope, pair: usize) -> f64 {
    let yarn = &op.yarn;
    // The (fractional) pair that makes this many turns over the original context.
    let pair_that_turns = |turns: f32| {
        let wavelength = yarn.n_ctx_orig as f64 / f64::from(turns);
        let base = f64::from(op.base.0).ln();
        op.n_rot as f64 * (wavelength / (2.0 * PI)).ln() / (2.0 * base)
    };
    let low = pair_that_turns(yarn.beta_fast.0).floor().max(0.0);
    let high = pair_that_turns(yarn.beta_slow.0)
        .ceil()
        .min(op.n_rot as f64 - 1.0);
    1.0 - ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
}
