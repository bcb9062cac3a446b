//! The stages of a choice. Probabilities are whole numbers, so that sums do not depend on their order: whoever adds them
//! up, and however, chooses the same token.

use super::SampleSettings;
use super::exponential::exp_of_non_positive;
use super::keys::{best_first, id_of, key_of, score_of};

/// Why no token can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// The logit of this token is NaN or infinite.
    BadLogit(usize),
    /// Every logit is -inf.
    AllMasked,
}

/// The best token's weight: the sum over 2^24 tokens fits.
const ONE: f64 = (1_u64 << 39) as f64;

/// Scores against the best one.
#[derive(Clone, Copy)]
struct Scale {
    best: f64,
    temperature: f64,
}

impl Scale {
    /// The weight of a token: its probability relative to that of the best.
    fn weight(self, key: u64) -> u64 {
        let distance = (f64::from(score_of(key)) - self.best) / self.temperature;
        (exp_of_non_positive(distance) * ONE + 0.5) as u64
    }
}

/// Chooses a token as [`Sample`](crate::ops::Sample) says: `logits[id]` is that of token `id`, `recent` are the tokens
/// that settings count as recent (others than ids of tokens are passed over), `random` decides the draw. `keys` is
/// working memory for as many numbers as there are logits.
///
/// # Errors
/// There is nothing to choose from.
pub fn choose(
    logits: &[f32],
    recent: impl Iterator<Item = i32> + Clone,
    settings: &SampleSettings,
    random: u64,
    keys: &mut [u64],
) -> Result<usize, NoChoice> {
    let keys = keys.get_mut(..logits.len()).unwrap_or_default();
    for (id, (key, logit)) in keys.iter_mut().zip(logits).enumerate() {
        if logit.is_nan() || *logit == f32::INFINITY {
            return Err(NoChoice::BadLogit(id));
        }
        *key = key_of(*logit, id);
    }
    if settings.penalise() {
        penalise(keys, logits, recent, settings);
    }
    let best = keys.iter().min().copied();
    let best = best.filter(|key| score_of(*key) > f32::NEG_INFINITY);
    let best = best.ok_or(NoChoice::AllMasked)?;
    if settings.temperature.is_nan() || settings.temperature <= 0.0 {
        return Ok(id_of(best));
    }
    let scale = |temperature| Scale {
        best: f64::from(score_of(best)),
        temperature,
    };
    let (plain, tempered) = (scale(1.0), scale(f64::from(settings.temperature)));
    let least = f64::from(settings.min_p.min(1.0)) * ONE;
    let is_probable = |key: u64| settings.min_p <= 0.0 || plain.weight(key) as f64 >= least;

    let has_order = settings.top_k >= 1.0 || settings.top_p < 1.0;
    if !has_order {
        for key in keys.iter_mut() {
            *key = if is_probable(*key) {
                tempered.weight(*key)
            } else {
                0
            };
        }
        // Weights now, in the order of ids.
        return Ok(drawn(keys.iter().copied(), random));
    }
    let mut kept = keys;
    if settings.top_k >= 1.0 {
        kept = best_first(kept, settings.top_k as usize);
    }
    if settings.top_p < 1.0 {
        kept = most_probable(kept, f64::from(settings.top_p), plain);
    }
    let n = kept.partition_point(|key| is_probable(*key));
    let kept = kept.get(..n).unwrap_or_default();
    let at = drawn(kept.iter().map(|key| tempered.weight(*key)), random);
    Ok(kept.get(at).copied().map_or(id_of(best), id_of))
}

/// Lowers the scores of recent tokens.
fn penalise(
    keys: &mut [u64],
    logits: &[f32],
    recent: impl Iterator<Item = i32> + Clone,
    settings: &SampleSettings,
) {
    /// Keys of scores are at least this: what is below counts.
    const KEY: u64 = 1 << 32;
    let ids = recent.filter_map(|id| usize::try_from(id).ok());
    for id in ids.clone() {
        if let Some(key) = keys.get_mut(id) {
            *key = if *key < KEY { *key + 1 } else { 1 };
        }
    }
    for id in ids {
        if let (Some(key), Some(logit)) = (keys.get_mut(id), logits.get(id))
            && *key < KEY
        {
            *key = key_of(penalised(*logit, *key, settings), id);
        }
    }
}

/// The score of a token that occurred `n` times.
fn penalised(logit: f32, n: u64, settings: &SampleSettings) -> f32 {
    let (score, repetition) = (f64::from(logit), f64::from(settings.repetition));
    let score = if logit > 0.0 {
        score / repetition
    } else {
        score * repetition
    };
    let score = score - (n as f64 * f64::from(settings.frequency) + f64::from(settings.presence));
    // What overflows is neither masked nor infinite.
    if logit == f32::NEG_INFINITY {
        logit
    } else {
        score.clamp(f32::MIN.into(), f32::MAX.into()) as f32
    }
}

/// The fewest best keys, in order, whose weights are at least `part` of all. Orders only as many as it needs: it is often
/// reached by a few of very many.
fn most_probable(keys: &mut [u64], part: f64, plain: Scale) -> &mut [u64] {
    let total = sum_of(keys.iter().map(|key| plain.weight(*key)));
    let target = ((part * total as f64).ceil() as u64).clamp(1, total.max(1));
    let (mut n_ordered, mut n_next, mut sum) = (0, 64, 0);
    while sum < target {
        let next = best_first(keys.get_mut(n_ordered..).unwrap_or_default(), n_next);
        if next.is_empty() {
            break;
        }
        for key in next {
            if sum >= target {
                break;
            }
            sum += plain.weight(*key);
            n_ordered += 1;
        }
        n_next *= 4;
    }
    keys.get_mut(..n_ordered).unwrap_or_default()
}

fn sum_of(weights: impl Iterator<Item = u64>) -> u64 {
    weights.fold(0, u64::saturating_add)
}

/// Where the running sum of weights first exceeds the point of their total that `random` is of 2^64.
fn drawn(weights: impl Iterator<Item = u64> + Clone, random: u64) -> usize {
    let total = sum_of(weights.clone());
    let point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    let mut sum = 0_u64;
    let exceeds = |weight: u64| {
        sum = sum.saturating_add(weight);
        sum > point
    };
    // The best token's weight is not 0, so there is one.
    weights.into_iter().position(exceeds).unwrap_or(0)
}
