//! Rotary position embedding in its four pairings, with frequency factors and YaRN scaling.
//!
//! Formulas: Su et al. 2021 (RoPE), Peng et al. 2023 (YaRN: interpolation ramp and magnitude), Qwen2-VL and Qwen3-VL
//! (multi-section, interleaved); parameter names as in ggml.

use super::array::{Array, IntArray};

/// Which elements form a pair, and which of a token's positions turns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeMode {
    /// Neighbours `(2i, 2i + 1)`.
    Normal,
    /// Halves `(i, i + n_rot/2)`.
    Neox,
    /// Halves; the pairs are cut in runs of these lengths that use position 0, 1, 2, 3 (time, height, width, extra) in turn.
    Multi([usize; 4]),
    /// Halves; pairs take time, height, width in turn while the section of that length lasts, else the extra position.
    Interleaved([usize; 4]),
}

/// Everything but the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeParams {
    /// Pairing.
    pub mode: RopeMode,
    /// How many leading elements of a head are rotated; the rest stays.
    pub n_rot: usize,
    /// The base of the frequencies: pair `i` turns by `base^(-2i/n_rot)` radians per position.
    pub freq_base: f64,
    /// Positions are multiplied by this (linear interpolation); 1 for none.
    pub freq_scale: f64,
    /// Share of YaRN's extrapolation; 0 switches YaRN off.
    pub ext_factor: f64,
    /// Factor of cosine and sine.
    pub attn_factor: f64,
    /// YaRN: pairs that turn more often than this over the original context keep their frequency.
    pub beta_fast: f64,
    /// YaRN: pairs that turn less often than this are interpolated.
    pub beta_slow: f64,
    /// YaRN: tokens of the original context.
    pub n_ctx_orig: usize,
}

/// Rotates `x` `[.., T, H, D]` by `positions` `[T]`, or `[4, T]` for the multi-section modes.
///
/// `freq_factors` `[n_rot/2]` divide the frequency of each pair.
pub fn rope(
    x: &Array,
    positions: &IntArray,
    freq_factors: Option<&Array>,
    params: &RopeParams,
) -> Array {
    let (token_axis, width_axis) = (x.rank() - 3, x.rank() - 1);
    let half = params.n_rot / 2;
    Array::from_fn(&x.shape, |idx| {
        let (token, i) = (idx[token_axis], idx[width_axis]);
        if i >= params.n_rot {
            return x.at(idx);
        }
        let (pair, is_second) = match params.mode {
            RopeMode::Normal => (i / 2, i % 2 == 1),
            _ => (i % half, i >= half),
        };
        let position = match position_row(params.mode, pair) {
            None => positions.at(&[token]),
            Some(row) => positions.at(&[row, token]),
        };
        let factor = freq_factors.map_or(1.0, |factors| factors.at(&[pair]));
        let (angle, magnitude) = angle(position as f64, pair, factor, params);
        let mut partner_idx = idx.to_vec();
        partner_idx[width_axis] = match (params.mode, is_second) {
            (RopeMode::Normal, false) => i + 1,
            (RopeMode::Normal, true) => i - 1,
            (_, false) => i + half,
            (_, true) => i - half,
        };
        let partner = x.at(&partner_idx);
        let turned = if is_second {
            partner * angle.sin() + x.at(idx) * angle.cos()
        } else {
            x.at(idx) * angle.cos() - partner * angle.sin()
        };
        turned * magnitude
    })
}

/// Which of the four positions turns `pair`; `None` if there is only one.
fn position_row(mode: RopeMode, pair: usize) -> Option<usize> {
    match mode {
        RopeMode::Normal | RopeMode::Neox => None,
        RopeMode::Multi(sections) => {
            let mut sector = pair % sections.iter().sum::<usize>();
            let mut row = 0;
            while sector >= sections[row] {
                sector -= sections[row];
                row += 1;
            }
            Some(row)
        }
        RopeMode::Interleaved(sections) => {
            let sector = pair % sections.iter().sum::<usize>();
            Some(if sector < 3 * sections[sector % 3] {
                sector % 3
            } else {
                3
            })
        }
    }
}

/// Angle in radians, and the factor of cosine and sine.
fn angle(position: f64, pair: usize, freq_factor: f64, params: &RopeParams) -> (f64, f64) {
    let frequency = params
        .freq_base
        .powf(-2.0 * pair as f64 / params.n_rot as f64)
        / freq_factor;
    let extrapolated = position * frequency;
    let interpolated = extrapolated * params.freq_scale;
    if params.ext_factor == 0.0 {
        return (interpolated, params.attn_factor);
    }
    let share = yarn_ramp(pair as f64, params) * params.ext_factor;
    let magnitude = params.attn_factor * (1.0 + 0.1 * (1.0 / params.freq_scale).ln());
    (
        interpolated * (1.0 - share) + extrapolated * share,
        magnitude,
    )
}

/// YaRN's ramp: 1 for pairs that turn fast, 0 for those that turn slowly, linear between.
fn yarn_ramp(pair: f64, params: &RopeParams) -> f64 {
    let last_dim = params.n_rot as f64 - 1.0;
    let low = pair_that_turns(params.beta_fast, params).floor().max(0.0);
    let high = pair_that_turns(params.beta_slow, params)
        .ceil()
        .min(last_dim);
    1.0 - ((pair - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
}

/// The (fractional) pair that makes `turns` turns over the original context.
fn pair_that_turns(turns: f64, params: &RopeParams) -> f64 {
    let wavelength = params.n_ctx_orig as f64 / turns;
    params.n_rot as f64 * (wavelength / (2.0 * std::f64::consts::PI)).ln()
        / (2.0 * params.freq_base.ln())
}
