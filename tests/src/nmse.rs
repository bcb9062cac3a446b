//! The distance of an answer from the truth: normalised mean square error, with a check of infinities and NaN.

use std::fmt;

/// How far an answer is from the expected one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// `sum((a - e)^2) / sum(e^2)` over the finite elements; infinite if all are expected to be 0 and some are not.
    pub nmse: f64,
    /// Index, value and expected value of the element with the largest difference, if there is any element.
    pub worst: Option<(usize, f64, f64)>,
}

/// Two arrays that cannot be compared by distance.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Mismatch {
    /// One has more elements.
    Length {
        /// Elements of the answer.
        actual: usize,
        /// Elements expected.
        expected: usize,
    },
    /// One is infinite (of a sign) or NaN where the other is not.
    Class {
        /// Index of the first such element.
        idx: usize,
        /// Its value.
        actual: f64,
        /// The value expected.
        expected: f64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { actual, expected } => {
                write!(f, "{actual} elements instead of {expected}")
            }
            Self::Class {
                idx,
                actual,
                expected,
            } => write!(f, "element {idx} is {actual} instead of {expected}"),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Compares an answer with what is expected, element by element.
pub fn compare(actual: &[f64], expected: &[f64]) -> Result<Comparison, Mismatch> {
    if actual.len() != expected.len() {
        return Err(Mismatch::Length {
            actual: actual.len(),
            expected: expected.len(),
        });
    }
    let (mut error, mut norm) = (0.0, 0.0);
    let mut worst = None;
    let mut worst_difference = -1.0;
    for (idx, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        if !e.is_finite() || !a.is_finite() {
            if a == e || a.is_nan() && e.is_nan() {
                continue;
            }
            return Err(Mismatch::Class {
                idx,
                actual: a,
                expected: e,
            });
        }
        error += (a - e) * (a - e);
        norm += e * e;
        if (a - e).abs() > worst_difference {
            worst_difference = (a - e).abs();
            worst = Some((idx, a, e));
        }
    }
    let nmse = if error == 0.0 { 0.0 } else { error / norm };
    Ok(Comparison { nmse, worst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_relative_to_the_truth() {
        let comparison = compare(&[1.0, 2.1], &[1.0, 2.0]).unwrap();
        assert!((comparison.nmse - 0.01 / 5.0).abs() < 1e-15);
        assert_eq!(comparison.worst, Some((1, 2.1, 2.0)));
        assert_eq!(compare(&[], &[]).unwrap().nmse, 0.0);
        assert_eq!(compare(&[0.0], &[0.0]).unwrap().nmse, 0.0);
        assert_eq!(compare(&[1e-30], &[0.0]).unwrap().nmse, f64::INFINITY);
    }

    #[test]
    fn infinities_and_nan_must_agree() {
        let same = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0];
        assert_eq!(compare(&same, &same).unwrap().nmse, 0.0);
        for (a, e) in [
            (1.0, f64::NAN),
            (f64::NAN, 1.0),
            (f64::INFINITY, f64::NEG_INFINITY),
            (3e38, f64::INFINITY),
        ] {
            assert!(
                matches!(compare(&[a], &[e]), Err(Mismatch::Class { idx: 0, .. })),
                "{a} for {e}"
            );
        }
        assert_eq!(
            compare(&[1.0], &[]),
            Err(Mismatch::Length {
                actual: 1,
                expected: 0
            })
        );
    }
}
