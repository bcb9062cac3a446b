//! The tokens that may come next, and the stages that narrow them. Knows nothing of settings or
//! randomness: each stage gets its number.

use std::cmp::Ordering;

use super::exponential::exp_of_non_positive;
use crate::tokenizer::TokenId;

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: TokenId,
    pub(super) logit: f64,
    /// Its probability relative to that of the best candidate; set by [`weigh`].
    weight: f64,
}

impl Candidate {
    pub(super) fn new(id: TokenId, logit: f64) -> Self {
        Self {
            id,
            logit,
            weight: 0.0,
        }
    }
}

/// Higher logits first; of equal ones, 0 and -0 among them, the lower id. No logit is NaN.
fn better_first(a: &Candidate, b: &Candidate) -> Ordering {
    let by_logit = b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal);
    by_logit.then(a.id.cmp(&b.id))
}

/// The best candidate; `None` if there are none.
pub(super) fn best(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().min_by(|a, b| better_first(a, b))
}

/// Keeps the `k` best, in order.
pub(super) fn keep_top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, better_first);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(better_first);
}

/// Keeps the fewest best candidates whose probabilities sum up to `p`, in order. Candidates must
/// be weighed. Orders only as many as it needs: `p` is often reached by a few of very many.
pub(super) fn keep_top_p(candidates: &mut Vec<Candidate>, p: f64) {
    let target = p * total_weight(candidates);
    let (mut n_ordered, mut n_next, mut sum) = (0, 64, 0.0);
    while let Some(mut next) = candidates.get_mut(n_ordered..)
        && !next.is_empty()
    {
        if n_next < next.len() {
            next = next.select_nth_unstable_by(n_next, better_first).0;
        }
        next.sort_unstable_by(better_first);
        let reaches_target = |candidate: &Candidate| {
            sum += candidate.weight;
            sum >= target
        };
        if let Some(last) = next.iter().position(reaches_target) {
            candidates.truncate(n_ordered + last + 1);
            return;
        }
        n_ordered += next.len();
        n_next *= 4;
    }
}

/// Keeps candidates at least `p` times as probable as the best one. Candidates must be weighed.
pub(super) fn keep_min_p(candidates: &mut Vec<Candidate>, p: f64) {
    candidates.retain(|candidate| candidate.weight >= p);
}

/// Sets every weight to the candidate's probability at this temperature, relative to the best's.
pub(super) fn weigh(candidates: &mut [Candidate], temperature: f64) {
    let best_logit = best(candidates).map_or(0.0, |candidate| candidate.logit);
    for candidate in candidates {
        candidate.weight = exp_of_non_positive((candidate.logit - best_logit) / temperature);
    }
}

fn total_weight(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// The candidate at `point`, from 0 to below 1, of the total weight; `None` if there are none.
pub(super) fn draw(candidates: &[Candidate], point: f64) -> Option<&Candidate> {
    let target = point * total_weight(candidates);
    let mut sum = 0.0;
    let at_point = candidates.iter().find(|candidate| {
        sum += candidate.weight;
        sum > target
    });
    // Rounding may leave the sum just below the target.
    at_point.or_else(|| candidates.iter().rfind(|candidate| candidate.weight > 0.0))
}
