//! Tokens in the order of their scores, as integers: a key has the rank of a score above the token's id, so that the
//! smallest key is the best token and of equal scores the lower id.

/// The key of a token.
#[allow(
    clippy::cast_possible_truncation,
    reason = "vocabularies are shorter than 2^24 tokens"
)]
pub(super) const fn key_of(score: f32, id: usize) -> u64 {
    // 0 and -0 are one score.
    let bits = (score + 0.0).to_bits();
    let rank = if bits >> 31 == 1 {
        bits
    } else {
        !bits & 0x7fff_ffff
    };
    (rank as u64) << 32 | id as u32 as u64
}

/// Its score.
pub(super) const fn score_of(key: u64) -> f32 {
    let rank = (key >> 32) as u32;
    f32::from_bits(if rank >> 31 == 1 {
        rank
    } else {
        !rank & 0x7fff_ffff
    })
}

/// Its id.
pub(super) const fn id_of(key: u64) -> usize {
    (key & 0xffff_ffff) as usize
}

/// Orders the `k` best keys, in front; all if there are fewer.
pub(super) fn best_first(keys: &mut [u64], k: usize) -> &mut [u64] {
    let k = k.min(keys.len());
    if 0 < k && k < keys.len() {
        keys.select_nth_unstable(k - 1);
    }
    let best = keys.get_mut(..k).unwrap_or_default();
    best.sort_unstable();
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_scores_and_then_ids() {
        let scores = [
            f32::INFINITY,
            f32::MAX,
            1.5,
            f32::MIN_POSITIVE,
            0.0,
            -1e-45,
            -1.5,
            f32::MIN,
            f32::NEG_INFINITY,
        ];
        for (i, a) in scores.iter().enumerate() {
            for (j, b) in scores.iter().enumerate() {
                let by_score = b.partial_cmp(a).unwrap();
                assert_eq!(key_of(*a, 3).cmp(&key_of(*b, 3)), by_score, "{a} {b}");
                assert_eq!(i.cmp(&j), by_score);
            }
            assert_eq!(score_of(key_of(*a, 7)).to_bits(), a.to_bits());
            assert_eq!(id_of(key_of(*a, 151_935)), 151_935);
        }
        assert!(key_of(-0.0, 0) < key_of(0.0, 1) && key_of(0.0, 0) < key_of(-0.0, 1));
    }

    #[test]
    fn the_best_come_first() {
        let mut keys = [5, 3, 9, 1, 7];
        assert_eq!(best_first(&mut keys, 2), [1, 3]);
        assert_eq!(best_first(&mut keys, 9), [1, 3, 5, 7, 9]);
        assert!(best_first(&mut keys, 0).is_empty());
    }
}
