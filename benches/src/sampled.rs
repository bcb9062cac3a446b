//! Some results of a large problem, drawn at random, against the oracle: all of them would take it minutes.

use std::error::Error;

use ggrs_core::DType;
use ggrs_tests::conformance::judge;
use ggrs_tests::oracle::{Array, IntArray, decode_ints, dequantize};
use ggrs_tests::problem::{Answer, Answers, Place, Posed, Problem, Tolerance};
use ggrs_tests::random::RandomInputs;
use ggrs_tests::tolerance::Mode;

use crate::problems::{Attend, Experts, Linear, Norm, Route};

/// Rows of weights and tokens that are drawn.
const ROWS: usize = 64;
const TOKENS: usize = 8;
/// Tokens of attention: each reads the whole cache.
const QUERIES: usize = 2;

/// What some results must be.
pub struct Sample {
    /// Which elements of the problem's first result.
    at: Vec<usize>,
    expected: Array,
}

/// A problem whose results can be checked one by one.
pub trait Sampled: Problem {
    /// Some of them; `None` where the small problem runs what the large one runs.
    fn sample(&self, posed: &Posed) -> Option<Sample> {
        let _ = posed;
        None
    }

    /// The type of its weights.
    fn dtype(&self) -> DType;
}

impl Sample {
    /// How many results are looked at.
    pub fn n_results(&self) -> usize {
        self.at.len()
    }

    /// Compares them with what the device gave for all.
    ///
    /// # Errors
    /// They are not within the tolerance of `stem` for `dtype`.
    pub fn check(self, stem: &'static str, dtype: DType, all: &[u8]) -> Result<(), Box<dyn Error>> {
        let (floats, _) = all.as_chunks::<4>();
        let given = self.at.iter().filter_map(|i| floats.get(*i));
        let given: Vec<u8> = given.flatten().copied().collect();
        let answer = Answer {
            place: Place::Output("y0".to_owned()),
            dtype: DType::F32,
            values: Answers::Floats(
                Array::new(&[self.at.len()], self.expected.data),
                Tolerance::of(stem, dtype),
            ),
        };
        match judge(&answer, &given, Mode::Fast) {
            Ok(_) => Ok(()),
            Err(complaint) => Err(format!("{} results: {complaint}", self.at.len()).into()),
        }
    }
}

/// At most `most` different numbers below `n`, in order.
fn drawn(n: usize, most: usize) -> Vec<usize> {
    let mut random = RandomInputs::new(n as u64);
    let mut drawn: Vec<usize> = (0..most.min(n)).map(|_| random.below(n)).collect();
    // Edges are where tiles go wrong.
    drawn.extend([0, n.saturating_sub(1)]);
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

/// Bytes of a leaf, by its number.
fn bytes(posed: &Posed, leaf: usize) -> Option<&[u8]> {
    Some(&posed.leaves.get(leaf)?.bytes)
}

/// Rows of `k` values out of many.
fn rows(dtype: DType, k: usize, all: &[u8], which: &[usize]) -> Option<Array> {
    let n_bytes = dtype.row_bytes(k)?;
    let rows = which
        .iter()
        .map(|r| all.get(r * n_bytes..(r + 1) * n_bytes));
    let rows: Vec<u8> = rows.collect::<Option<Vec<_>>>()?.concat();
    Some(dequantize(dtype, &[which.len(), k], &rows))
}

impl Sampled for Linear {
    fn sample(&self, posed: &Posed) -> Option<Sample> {
        let (which, tokens) = (drawn(self.m, ROWS), drawn(self.n, TOKENS));
        let weights = rows(self.dtype, self.k, bytes(posed, 0)?, &which)?;
        let x = rows(DType::F32, self.k, bytes(posed, 1)?, &tokens)?;
        let at = |t: &usize| which.iter().map(|r| t * self.m + r).collect::<Vec<_>>();
        Some(Sample {
            at: tokens.iter().flat_map(at).collect(),
            expected: ggrs_tests::oracle::matmul(&weights, &x),
        })
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

impl Sampled for Experts {
    fn sample(&self, posed: &Posed) -> Option<Sample> {
        let (which, tokens) = (drawn(self.m, ROWS / 4), drawn(self.n, TOKENS));
        let ids = decode_ints(DType::I32, &[self.n, self.n_used], bytes(posed, 2)?);
        let own_ids = IntArray::from_fn(&[1, self.n_used], |i| i.last().map_or(0, |i| *i as i64));
        let (mut at, mut expected) = (Vec::new(), Vec::new());
        for token in tokens {
            let used = (0..self.n_used).map(|u| ids.index_at(&[token, u]));
            let used = used.flat_map(|e| which.iter().map(move |r| e * self.m + r));
            let used: Vec<usize> = used.collect();
            let bank = |leaf| {
                let rows = rows(self.dtype, self.k, bytes(posed, leaf)?, &used)?;
                Some(Array::new(&[self.n_used, which.len(), self.k], rows.data))
            };
            let x = rows(DType::F32, self.k, bytes(posed, 1)?, &[token])?;
            let x = Array::new(&[1, 1, self.k], x.data);
            let up = if self.gated { Some(bank(3)?) } else { None };
            expected.extend(self.answer(&bank(0)?, up.as_ref(), &x, &own_ids).data);
            let first = |u| (token * self.n_used + u) * self.m;
            at.extend((0..self.n_used).flat_map(|u| which.iter().map(move |r| first(u) + r)));
        }
        Some(Sample {
            expected: Array::new(&[at.len()], expected),
            at,
        })
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

impl Sampled for Attend {
    fn sample(&self, posed: &Posed) -> Option<Sample> {
        let tokens = drawn(self.n, QUERIES);
        let row = self.n_heads * self.width;
        let q = rows(DType::F32, row, bytes(posed, 0)?, &tokens)?;
        let q = Array::new(&[tokens.len(), self.n_heads, self.width], q.data);
        let cells = self.n_blocks() * crate::problems::BLOCK;
        let shape = [cells, self.n_kv_heads, self.width];
        let cache = |leaf| Some(dequantize(self.dtype, &shape, bytes(posed, leaf)?));
        let ints =
            |leaf, shape: &[usize]| Some(decode_ints(DType::I32, shape, bytes(posed, leaf)?));
        let of_tokens = |leaf| {
            let all = ints(leaf, &[self.n])?;
            let own = tokens.iter().map(|t| all.at(&[*t])).collect();
            Some(IntArray::new(&[tokens.len()], own))
        };
        let expected = self.answer(
            (&q, &cache(1)?, &cache(2)?),
            (&of_tokens(3)?, &of_tokens(4)?),
            &ints(5, &[1, self.n_blocks()])?,
        );
        Some(Sample {
            at: tokens.iter().flat_map(|t| t * row..(t + 1) * row).collect(),
            expected,
        })
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

impl Sampled for Norm {
    fn dtype(&self) -> DType {
        DType::F32
    }
}

impl Sampled for Route {
    fn dtype(&self) -> DType {
        DType::F32
    }
}

#[cfg(test)]
mod tests {
    use ggrs_tests::oracle::encode_floats;
    use ggrs_tests::problem::pose;

    use super::*;

    /// What the oracle says of the whole problem passes, and a result that is elsewhere does not.
    fn checks(problem: &dyn Sampled) {
        let posed = pose(problem, true).unwrap();
        let Answers::Floats(all, _) = &posed.answers[0].values else {
            unreachable!("{problem:?} has floats");
        };
        let check = |values: &Array| {
            let bytes = encode_floats(values, DType::F32);
            let sample = problem.sample(&posed).unwrap();
            sample.check(problem.stem(), problem.dtype(), &bytes)
        };
        check(all).unwrap();
        let mut moved = all.clone();
        moved.data.rotate_left(1);
        check(&moved).unwrap_err();
    }

    #[test]
    fn samples_are_of_the_results_that_they_name() {
        let (dtype, m, k) = (DType::Q4_K, 96, 256);
        checks(&Linear { dtype, m, k, n: 12 });
        for gated in [false, true] {
            checks(&Experts {
                dtype,
                n_experts: 8,
                n_used: 3,
                m,
                k,
                n: 12,
                gated,
            });
        }
        checks(&Attend {
            dtype: DType::F16,
            n: 5,
            kv: 70,
            n_heads: 4,
            n_kv_heads: 2,
            width: 32,
        });
    }
}
