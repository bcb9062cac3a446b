//! The angles of rotary position embedding: frequencies, YaRN scaling, and which position turns a pair.
//!
//! Formulas: RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071) with ggml's parameters. It must not know tensors.

use std::f64::consts::PI;

use ggrs_core::ops::{Rope, RopeMode};

/// One pair of elements.
#[derive(Clone, Copy, Debug)]
struct Pair {
    /// Radians per position.
    turn: f64,
    /// Which row of positions turns it.
    row: usize,
}

/// How every pair turns.
#[derive(Clone, Debug)]
pub(super) struct Angles {
    pairs: Box<[Pair]>,
    /// Factor of cosines and sines.
    magnitude: f64,
}

impl Angles {
    /// The angles of an op.
    pub(super) fn new(op: &Rope) -> Self {
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
            Pair {
                turn: frequency * (freq_scale * (1.0 - share) + share),
                row: position_row(op.mode, i),
            }
        });
        Self {
            pairs: pairs.collect(),
            magnitude,
        }
    }

    /// Cosines and sines of a token whose position in row `r` is `position(r)`. Factors divide the frequencies.
    pub(super) fn of_token(
        &self,
        position: impl Fn(usize) -> i32,
        factors: Option<&[f32]>,
        (cos, sin): (&mut [f32], &mut [f32]),
    ) {
        for (i, (pair, (cos, sin))) in self.pairs.iter().zip(cos.iter_mut().zip(sin)).enumerate() {
            let factor = factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0);
            let angle = f64::from(position(pair.row)) * pair.turn / f64::from(factor);
            let (s, c) = angle.sin_cos();
            *cos = (c * self.magnitude) as f32;
            *sin = (s * self.magnitude) as f32;
        }
    }
}

/// The row of positions that turns a pair.
fn position_row(mode: RopeMode, pair: usize) -> usize {
    let section = |s: [usize; 4]| pair % s.iter().sum::<usize>().max(1);
    match mode {
        RopeMode::Normal | RopeMode::Neox => 0,
        RopeMode::Multi(s) => {
            let at = section(s);
            let mut end = 0;
            s.iter()
                .position(|n| {
                    end += n;
                    at < end
                })
                .unwrap_or(3)
        }
        RopeMode::Interleaved(s) => {
            let at = section(s);
            match s.get(at % 3) {
                Some(n) if at < 3 * n => at % 3,
                _ => 3,
            }
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
