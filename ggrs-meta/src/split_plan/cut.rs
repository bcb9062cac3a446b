//! Cutting the positions of a group into one range per member. It knows numbers only: no tensors, no dtypes.

use std::ops::Range;

/// The positions of a group and what of them belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    /// How many.
    pub(super) positions: usize,
    /// Ranges begin and end at multiples of this; it divides `positions`.
    pub(super) atom: usize,
    /// Positions per key head, 1 if they share nothing; it divides `positions`. A range lies inside one key head or
    /// holds whole ones.
    pub(super) shared_by: usize,
}

/// The greatest common divisor; that of 0 and n is n.
pub(super) const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The least common multiple, at most `limit`, which must be a multiple of both or is taken in its stead.
pub(super) fn lcm_within(a: usize, b: usize, limit: usize) -> usize {
    let lcm = (a / gcd(a, b).max(1)).checked_mul(b);
    match lcm {
        Some(n) if n > 0 && limit.is_multiple_of(n) => n,
        _ => limit.max(1),
    }
}

impl Pieces {
    /// Is every range a legal part?
    pub(super) fn keep(&self, ranges: &[Range<usize>]) -> bool {
        let (atom, heads) = (self.atom.max(1), self.shared_by.max(1));
        ranges.iter().filter(|r| !r.is_empty()).all(|r| {
            let whole = |n: usize| r.start.is_multiple_of(n) && r.end.is_multiple_of(n);
            whole(atom) && (whole(heads) || r.start / heads == (r.end - 1) / heads)
        })
    }

    /// One range per member, in member order, as close to the ratios as whole pieces allow. What is left over after
    /// rounding goes to other members at each `turn`, so that over many groups everybody gets their ratio.
    pub(super) fn cut(&self, ratios: &[f64], turn: usize) -> Vec<Range<usize>> {
        let active: Vec<usize> = (0..ratios.len())
            .filter(|m| ratios.get(*m).is_some_and(|r| *r > 0.0))
            .collect();
        let weights: Vec<f64> = active
            .iter()
            .filter_map(|m| ratios.get(*m))
            .copied()
            .collect();
        let (atom, heads) = (self.atom.max(1), self.shared_by.max(1));
        let whole = lcm_within(atom, heads, self.positions);
        let n_wholes = self.positions / whole;
        let sizes: Vec<usize> = if n_wholes < active.len() && heads > atom && whole == heads {
            // Fewer key heads than members: each key head has a run of neighbouring members.
            runs(&weights, n_wholes, turn)
                .iter()
                .flat_map(|run| {
                    apportion(heads / atom, weights.get(run.clone()).unwrap_or(&[]), turn)
                })
                .map(|n| n * atom)
                .collect()
        } else {
            let parts = apportion(n_wholes, &weights, turn);
            parts.into_iter().map(|n| n * whole).collect()
        };
        let mut of_member = vec![0; ratios.len()];
        for (m, size) in active.iter().zip(sizes) {
            if let Some(slot) = of_member.get_mut(*m) {
                *slot = size;
            }
        }
        in_order(&of_member)
    }
}

/// Neighbouring ranges of these sizes.
pub(super) fn in_order(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut at = 0usize;
    let next = |n: &usize| {
        let start = at;
        at = at.saturating_add(*n);
        start..at
    };
    sizes.iter().map(next).collect()
}

/// The phase of a turn: spread evenly over 0..1 (multiples of the golden ratio), 1/2 at turn 0, which is rounding to
/// the nearest.
fn phase(turn: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "layers are few")]
    let turns = turn as f64;
    (0.5 + turns * 0.618_033_988_749_894_9).fract()
}

/// `total` pieces in proportion to the weights: every share is rounded down or up, and over many turns each member's
/// average is its exact share (systematic rounding of the running sums).
fn apportion(total: usize, weights: &[f64], turn: usize) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let (mut running, mut before) = (0.0, 0);
    let last = weights.len().saturating_sub(1);
    let share = |(i, weight): (usize, &f64)| {
        running += weight / sum;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positions are far below 2^52, shares between 0 and 1"
        )]
        let end = (running * total as f64 + phase(turn) + 1e-9).floor() as usize;
        let end = if i == last {
            total
        } else {
            end.clamp(before, total)
        };
        let n = end - before;
        before = end;
        n
    };
    weights.iter().enumerate().map(share).collect()
}

/// Cuts neighbouring members into `n_runs` runs that are as equally strong as can be: each has the same work, and the
/// sum of their times is the least. Equally good cuts take turns. At least as many members as runs.
fn runs(weights: &[f64], n_runs: usize, turn: usize) -> Vec<Range<usize>> {
    let n = weights.len();
    let mut sums = vec![0.0];
    sums.extend(weights.iter().scan(0.0, |sum, w| {
        *sum += w;
        Some(*sum)
    }));
    let time = |r: Range<usize>| {
        let strength = sums.get(r.end).unwrap_or(&0.0) - sums.get(r.start).unwrap_or(&0.0);
        strength.recip()
    };
    // Per number of runs and members: their time, and where the last run begins.
    let mut best: Vec<Vec<(f64, usize)>> = vec![(0..=n).map(|i| (time(0..i), 0)).collect()];
    for k in 1..n_runs {
        let shorter = best.last().cloned().unwrap_or_default();
        let row = (0..=n).map(|end| {
            let of = |start: usize| {
                let before = shorter.get(start).map_or(f64::INFINITY, |b| b.0);
                before + time(start..end)
            };
            let least = (k..end).map(of).fold(f64::INFINITY, f64::min);
            let equal: Vec<usize> = (k..end)
                .filter(|start| of(*start) <= least * (1.0 + 1e-9))
                .collect();
            let start = turn.checked_rem(equal.len()).and_then(|i| equal.get(i));
            (least, start.copied().unwrap_or(0))
        });
        best.push(row.collect());
    }
    let mut out = Vec::with_capacity(n_runs);
    let mut end = n;
    for row in best.iter().take(n_runs).rev() {
        let start = row.get(end).map_or(0, |b| b.1);
        out.push(start..end);
        end = start;
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(pieces: Pieces, ratios: &[f64], turn: usize) -> Vec<usize> {
        pieces.cut(ratios, turn).iter().map(Range::len).collect()
    }

    const fn pieces(positions: usize, atom: usize, shared_by: usize) -> Pieces {
        Pieces {
            positions,
            atom,
            shared_by,
        }
    }

    #[test]
    fn ratios_are_met_in_whole_atoms() {
        assert_eq!(sizes(pieces(8, 1, 1), &[3.0, 1.0], 0), [6, 2]);
        assert_eq!(sizes(pieces(704, 64, 1), &[1.0, 1.0], 0), [384, 320]);
        assert_eq!(sizes(pieces(8, 1, 1), &[1.0, 0.0], 0), [8, 0]);
        assert_eq!(sizes(pieces(2, 1, 1), &[0.0, 1.0, 0.0], 3), [0, 2, 0]);
        assert_eq!(sizes(pieces(0, 1, 1), &[1.0, 1.0], 0), [0, 0]);
        assert_eq!(sizes(pieces(0, 1, 4), &[1.0, 1.0], 0), [0, 0]);
    }

    #[test]
    fn leftovers_go_round() {
        let mut totals = [0; 3];
        for turn in 0..48 {
            for (total, n) in totals
                .iter_mut()
                .zip(sizes(pieces(4, 1, 1), &[1.0; 3], turn))
            {
                *total += n;
            }
        }
        assert_eq!(totals.iter().sum::<usize>(), 4 * 48);
        assert!(totals.iter().all(|n| n.abs_diff(64) <= 1), "{totals:?}");
    }

    #[test]
    fn key_heads_have_runs_of_members() {
        // 8 query heads, 2 key heads, 3 members.
        assert_eq!(sizes(pieces(8, 1, 4), &[1.0; 3], 0), [4, 2, 2]);
        assert_eq!(sizes(pieces(8, 1, 4), &[1.0; 3], 1), [2, 2, 4]);
        // 8 key heads, 10 members: nobody is left without.
        assert!(
            sizes(pieces(64, 4, 8), &[1.0; 10], 0)
                .iter()
                .all(|n| *n >= 4)
        );
        // A strong member has a key head of its own.
        assert_eq!(sizes(pieces(8, 1, 4), &[1.0, 1.0, 2.0], 0), [2, 2, 4]);
        // One key head, more members than query heads.
        let one = sizes(pieces(4, 1, 4), &[1.0; 6], 0);
        assert_eq!((one.iter().sum::<usize>(), one.len()), (4, 6));
        assert!(one.iter().all(|n| *n <= 1));
        // Enough key heads: cut between them only.
        assert_eq!(sizes(pieces(32, 1, 8), &[1.0, 1.0], 0), [16, 16]);
    }

    #[test]
    fn atoms_that_span_key_heads_are_never_cut() {
        // Atoms of 3 over key heads of 2: pieces of 6.
        let cut = sizes(pieces(12, 3, 2), &[1.0; 3], 0);
        assert!(cut.iter().all(|n| n.is_multiple_of(6)), "{cut:?}");
        assert_eq!(cut.iter().sum::<usize>(), 12);
    }
}
