//! Judging: bytes that a device gave against what the oracle answers.

use std::fmt;

use ggrs_core::DType;

use crate::nmse::{Mismatch, compare};
use crate::oracle::{Array, decode_ints, dequantize, round_to};
use crate::problem::{Answer, Answers};
use crate::tolerance::Mode;

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Complaint {
    /// The tolerance table has no row for it.
    NoBound,
    /// An integer differs.
    Id {
        /// Where.
        idx: usize,
        /// What came.
        actual: i64,
        /// What was expected.
        expected: i64,
    },
    /// A value that must be the same to the last bit differs.
    Value {
        /// Where first.
        idx: usize,
        /// What came.
        actual: f64,
        /// What was expected.
        expected: f64,
    },
    /// Too far away.
    TooFar {
        /// The distance.
        nmse: f64,
        /// What is allowed.
        bound: f64,
        /// The first element that is off by more than the bound's share of the mean, its value and the expected one.
        first: Option<(usize, f64, f64)>,
    },
    /// Not comparable.
    Mismatch(Mismatch),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBound => f.write_str("the tolerance table has no bound"),
            Self::Id {
                idx,
                actual,
                expected,
            } => write!(f, "[{idx}] is {actual} instead of {expected}"),
            Self::Value {
                idx,
                actual,
                expected,
            } => {
                write!(
                    f,
                    "[{idx}] is {actual:e} instead of {expected:e}, which is exact"
                )
            }
            Self::TooFar { nmse, bound, first } => {
                write!(f, "NMSE {nmse:.1e}, bound {bound:.0e}")?;
                match first {
                    Some((idx, actual, expected)) => {
                        write!(f, ", first [{idx}] is {actual:e} instead of {expected:e}")
                    }
                    None => Ok(()),
                }
            }
            Self::Mismatch(mismatch) => mismatch.fmt(f),
        }
    }
}

impl std::error::Error for Complaint {}

/// Compares bytes with an answer; the NMSE if they are close enough.
pub fn judge(answer: &Answer, bytes: &[u8], mode: Mode) -> Result<f64, Complaint> {
    let dtype = answer.dtype;
    match &answer.values {
        Answers::Ints(expected) => {
            let actual = decode_ints(dtype, &expected.shape, bytes);
            let mut pairs = actual.data.iter().zip(&expected.data).enumerate();
            match pairs.find(|(_, (a, e))| a != e) {
                None => Ok(0.0),
                Some((idx, (&actual, &expected))) => Err(Complaint::Id {
                    idx,
                    actual,
                    expected,
                }),
            }
        }
        Answers::Floats(expected, tolerance) => {
            let bound = tolerance.bound(mode).ok_or(Complaint::NoBound)?.nmse;
            let actual = dequantize(dtype, &expected.shape, bytes);
            if bound == 0.0 {
                same(dtype, &actual, expected)
            } else {
                close(dtype, &actual, expected, bound)
            }
        }
    }
}

fn rounded(dtype: DType, v: f64) -> f64 {
    if dtype.is_block() {
        v
    } else {
        round_to(dtype, v)
    }
}

/// Equal after rounding to the dtype; blocks hold their values exactly.
fn same(dtype: DType, actual: &Array, expected: &Array) -> Result<f64, Complaint> {
    let mut pairs = actual.data.iter().zip(&expected.data).enumerate();
    match pairs.find(|(_, (a, e))| **a != rounded(dtype, **e) && !(a.is_nan() && e.is_nan())) {
        None => Ok(0.0),
        Some((idx, (&actual, &expected))) => Err(Complaint::Value {
            idx,
            actual,
            expected,
        }),
    }
}

/// Within the bound of what the dtype can hold: nobody answers for a rounding that cannot be avoided.
fn close(dtype: DType, actual: &Array, expected: &Array, bound: f64) -> Result<f64, Complaint> {
    let expected = expected.map(|v| rounded(dtype, v));
    let comparison = compare(&actual.data, &expected.data).map_err(Complaint::Mismatch)?;
    let nmse = comparison.nmse;
    if nmse <= bound {
        return Ok(nmse);
    }
    let finite = expected.data.iter().filter(|v| v.is_finite());
    let mean_square = finite.clone().map(|v| v * v).sum::<f64>() / finite.count().max(1) as f64;
    let limit = bound * mean_square;
    let mut pairs = actual.data.iter().zip(&expected.data).enumerate();
    let first = pairs.find(|(_, (a, e))| (*a - *e) * (*a - *e) > limit);
    let first = first.map(|(idx, (&a, &e))| (idx, a, e));
    Err(Complaint::TooFar { nmse, bound, first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{IntArray, encode_floats, encode_ints};
    use crate::problem::{Place, Tolerance};

    fn floats(dtype: DType, stem: &'static str, data: &[f64]) -> Answer {
        let values = Answers::Floats(
            Array::new(&[data.len()], data.to_vec()),
            Tolerance::of(stem, dtype),
        );
        Answer {
            place: Place::Output("y".into()),
            dtype,
            values,
        }
    }

    fn bytes(dtype: DType, data: &[f64]) -> Vec<u8> {
        encode_floats(&Array::new(&[data.len()], data.to_vec()), dtype)
    }

    #[test]
    fn the_first_bad_element_is_named() {
        let answer = floats(DType::F32, "add", &[1.0, 2.0, 3.0]);
        let judged = judge(&answer, &bytes(DType::F32, &[1.0, 2.5, 4.0]), Mode::Exact);
        assert!(
            matches!(
                judged,
                Err(Complaint::TooFar {
                    first: Some((1, 2.5, 2.0)),
                    ..
                })
            ),
            "{judged:?}"
        );
        assert!(
            judge(
                &answer,
                &bytes(DType::F32, &[1.0, 2.0, 3.000_001]),
                Mode::Exact
            )
            .is_ok()
        );
    }

    #[test]
    fn a_bound_of_zero_wants_the_same_bits_after_rounding() {
        let answer = floats(DType::F16, "cast", &[0.1, f64::NAN, 1e6]);
        assert_eq!(
            judge(
                &answer,
                &bytes(DType::F16, &[0.1, f64::NAN, f64::INFINITY]),
                Mode::Exact
            ),
            Ok(0.0)
        );
        let judged = judge(
            &answer,
            &bytes(DType::F16, &[0.1001, f64::NAN, f64::INFINITY]),
            Mode::Exact,
        );
        assert!(
            matches!(judged, Err(Complaint::Value { idx: 0, .. })),
            "{judged:?}"
        );
    }

    #[test]
    fn overflow_is_infinite_and_ids_are_exact() {
        let answer = floats(DType::F32, "exp", &[1.0, 1e300]);
        assert!(
            judge(
                &answer,
                &bytes(DType::F32, &[1.0, f64::INFINITY]),
                Mode::Exact
            )
            .is_ok()
        );
        assert!(judge(&answer, &bytes(DType::F32, &[1.0, 3e38]), Mode::Exact).is_err());
        let ids = IntArray::new(&[2], vec![4, -1]);
        let answer = Answer {
            place: Place::Output("y".into()),
            dtype: DType::I32,
            values: Answers::Ints(ids.clone()),
        };
        assert_eq!(
            judge(&answer, &encode_ints(&ids, DType::I32), Mode::Fast),
            Ok(0.0)
        );
        let judged = judge(&answer, &[4, 0, 0, 0, 0, 0, 0, 0], Mode::Fast);
        assert_eq!(
            judged,
            Err(Complaint::Id {
                idx: 1,
                actual: 0,
                expected: -1
            })
        );
    }

    #[test]
    fn an_op_without_a_bound_fails() {
        let answer = floats(DType::F32, "no such op", &[1.0]);
        assert_eq!(
            judge(&answer, &bytes(DType::F32, &[1.0]), Mode::Exact),
            Err(Complaint::NoBound)
        );
    }
}
