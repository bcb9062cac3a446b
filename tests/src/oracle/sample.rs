//! The choice of the next token, with full sorts and counts of everything.

use super::array::{Array, IntArray};

/// The cursor `[4 + W, R]` after the choice of a token for every column whose slot is not negative: from `logits`
/// `[R, V]`, `settings` `[R, 8]` and `seeds` `[R]`.
pub fn sample(cursor: &IntArray, logits: &Array, settings: &Array, seeds: &IntArray) -> IntArray {
    let (n_sequences, ring) = (cursor.shape[1], cursor.shape[0] - 4);
    let mut result = cursor.clone();
    for r in 0..n_sequences {
        let [_, position, slot, draws] = [0, 1, 2, 3].map(|row| cursor.at(&[row, r]));
        if slot < 0 {
            continue;
        }
        let in_ring = |position: i64| 4 + position.rem_euclid(ring as i64) as usize;
        let window = (settings.at(&[r, 7]) as usize).min(ring) as i64;
        let last = position + 1 - window..=position;
        let recent: Vec<i64> = last.map(|p| cursor.at(&[in_ring(p), r])).collect();
        let row = |x: &Array, n: usize| -> Vec<f64> { (0..n).map(|i| x.at(&[r, i])).collect() };
        let token = choose(
            &row(logits, logits.row_len()),
            &recent,
            &row(settings, 8),
            random(seeds.at(&[r]) as u64, draws as u64),
        );
        result.set(&[0, r], token);
        result.set(&[1, r], position + 1);
        result.set(&[3, r], draws + 1);
        if ring > 0 {
            result.set(&[in_ring(position + 1), r], token);
        }
    }
    result
}

fn choose(logits: &[f64], recent: &[i64], settings: &[f64], random: u64) -> i64 {
    let (temperature, top_k, top_p, min_p) = (settings[0], settings[1], settings[2], settings[3]);
    let mut tokens: Vec<(i64, f64)> = (0..).zip(logits.iter().copied()).collect();
    for (id, score) in &mut tokens {
        let n = recent.iter().filter(|other| *other == id).count() as f64;
        if n > 0.0 && score.is_finite() {
            *score = if *score > 0.0 {
                *score / settings[4]
            } else {
                *score * settings[4]
            };
            *score -= n * settings[6] + settings[5];
            *score = f64::from(score.clamp(f32::MIN.into(), f32::MAX.into()) as f32);
        }
    }
    // -0 and 0 are one score.
    let score = |token: &(i64, f64)| token.1 + 0.0;
    tokens.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.0.cmp(&b.0)));
    let best = tokens[0].1;
    if temperature <= 0.0 {
        return tokens[0].0;
    }
    let one = 2f64.powi(39);
    let weight = |score: f64, t: f64| (one * ((score - best) / t).exp()).round();
    if top_k >= 1.0 {
        tokens.truncate(top_k as usize);
    }
    if top_p < 1.0 {
        let all: f64 = tokens.iter().map(|(_, score)| weight(*score, 1.0)).sum();
        let mut sum = 0.0;
        let reached = tokens.iter().position(|(_, score)| {
            sum += weight(*score, 1.0);
            sum >= top_p * all
        });
        tokens.truncate(reached.map_or(tokens.len(), |at| at + 1));
    }
    if min_p > 0.0 {
        tokens.retain(|(_, score)| weight(*score, 1.0) >= min_p * one);
    }
    if top_k < 1.0 && top_p >= 1.0 {
        tokens.sort_by_key(|(id, _)| *id);
    }
    let weights: Vec<u128> = tokens
        .iter()
        .map(|(_, score)| weight(*score, temperature) as u128)
        .collect();
    let point = u128::from(random) * weights.iter().sum::<u128>() / (1 << 64);
    let mut sum = 0;
    let at = weights.iter().position(|weight| {
        sum += weight;
        sum > point
    });
    tokens[at.unwrap_or(tokens.len() - 1)].0
}

/// The numbers of SplitMix64, one after another.
fn random(seed: u64, draw: u64) -> u64 {
    let (mut state, mut number) = (seed, 0);
    for _ in 0..=draw {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        number = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^= number >> 31;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: [f64; 8] = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 64.0];

    #[test]
    fn cursors_move_on_and_padding_stays() {
        // Token, position, slot, draws; a ring of two.
        let cursor = IntArray::new(&[6, 2], vec![3, 9, 5, 5, 0, -1, 7, 7, 1, 1, 3, 3]);
        let logits = Array::new(&[2, 4], vec![0.0, 2.0, 1.0, 2.0, 0.0, 2.0, 1.0, 2.0]);
        let settings = Array::new(&[2, 8], [GREEDY, GREEDY].concat());
        let next = sample(&cursor, &logits, &settings, &IntArray::filled(&[2], 0));
        assert_eq!(next.data, [1, 9, 6, 5, 0, -1, 8, 7, 1, 1, 3, 3]);
    }

    #[test]
    fn stages_keep_what_they_say() {
        let logits = [0.0, 3.0, 2.9, 2.0];
        let drawn = |settings: [f64; 8], recent: &[i64]| -> Vec<i64> {
            let draws = (0..200).map(|i| choose(&logits, recent, &settings, random(7, i)));
            let mut all: Vec<i64> = draws.collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let hot = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 64.0];
        assert_eq!(drawn(hot, &[]), [0, 1, 2, 3]);
        assert_eq!(
            drawn([1.0, 2.0, 1.0, 0.0, 1.0, 0.0, 0.0, 64.0], &[]),
            [1, 2]
        );
        assert_eq!(drawn([1.0, 0.0, 0.4, 0.0, 1.0, 0.0, 0.0, 64.0], &[]), [1]);
        assert_eq!(
            drawn([1.0, 0.0, 1.0, 0.3, 1.0, 0.0, 0.0, 64.0], &[]),
            [1, 2, 3]
        );
        // Twice 1.0 and 0.5 less.
        assert_eq!(
            drawn([0.0, 0.0, 1.0, 0.0, 1.0, 0.5, 1.0, 64.0], &[1, 1, 2]),
            [3]
        );
    }
}
