//! Sums and the maximum of rows.
//!
//! Runs are summed in F32 lanes, their totals in F64: the error does not grow with the row.

use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// Vectors that are summed side by side.
const SIDES: usize = 4;

/// Elements whose sum is kept in F32.
const RUN: usize = 2048;

/// What is summed of each element.
trait Term: Copy {
    /// `sum` and the term of `x`.
    fn add<L: Lanes>(self, lanes: L, sum: L::Floats, x: L::Floats) -> L::Floats;

    /// The term of `x` in F64.
    fn exact(x: f64) -> f64;

    /// Can F32 hold a run's sum and its terms?
    fn in_range(sum: f64) -> bool;
}

#[derive(Clone, Copy)]
struct Value;

impl Term for Value {
    #[inline(always)]
    fn add<L: Lanes>(self, lanes: L, sum: L::Floats, x: L::Floats) -> L::Floats {
        lanes.add(sum, x)
    }

    fn exact(x: f64) -> f64 {
        x
    }

    fn in_range(sum: f64) -> bool {
        sum.is_finite()
    }
}

#[derive(Clone, Copy)]
struct Square;

impl Term for Square {
    #[inline(always)]
    fn add<L: Lanes>(self, lanes: L, sum: L::Floats, x: L::Floats) -> L::Floats {
        lanes.mul_add(x, x, sum)
    }

    fn exact(x: f64) -> f64 {
        x * x
    }

    /// Squares overflow above 1e19 and lose bits below 1e-19.
    fn in_range(sum: f64) -> bool {
        (1e-30..=f64::from(f32::MAX)).contains(&sum)
    }
}

struct Sum<'a, T>(T, &'a [f32]);

impl<T: Term> Task for Sum<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f64 {
        let Self(term, x) = self;
        let mut total = 0.0;
        for run in x.chunks(RUN) {
            let mut sums = [lanes.splat(0.0); SIDES];
            let mut steps = run.chunks_exact(SIDES * L::N);
            for step in &mut steps {
                for (sum, x) in sums.iter_mut().zip(step.chunks_exact(L::N)) {
                    *sum = term.add(lanes, *sum, lanes.load(x));
                }
            }
            // Lanes past the end are 0 and add nothing.
            for (sum, x) in sums.iter_mut().zip(steps.remainder().chunks(L::N)) {
                *sum = term.add(lanes, *sum, lanes.load(x));
            }
            let [a, b, c, d] = sums;
            let sum = f64::from(lanes.total(lanes.add(lanes.add(a, b), lanes.add(c, d))));
            total += if T::in_range(sum) {
                sum
            } else {
                run.iter().map(|x| T::exact(f64::from(*x))).sum()
            };
        }
        total
    }
}

struct Deviations<'a> {
    x: &'a [f32],
    center: f32,
}

impl Task for Deviations<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> (f64, f64) {
        let center = lanes.splat(self.center);
        let (mut total, mut total_squares) = (0.0, 0.0);
        for run in self.x.chunks(RUN) {
            let mut sums = [lanes.splat(0.0); 2];
            let mut squares = [lanes.splat(0.0); 2];
            let mut steps = run.chunks_exact(2 * L::N);
            for step in &mut steps {
                let sides = sums.iter_mut().zip(&mut squares);
                for ((sum, square), x) in sides.zip(step.chunks_exact(L::N)) {
                    let x = lanes.sub(lanes.load(x), center);
                    *sum = lanes.add(*sum, x);
                    *square = lanes.mul_add(x, x, *square);
                }
            }
            total += f64::from(lanes.total(lanes.add(sums[0], sums[1])));
            total_squares += f64::from(lanes.total(lanes.add(squares[0], squares[1])));
            for x in steps.remainder() {
                let x = f64::from(x - self.center);
                total += x;
                total_squares += x * x;
            }
        }
        (total, total_squares)
    }
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl Task for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let mut total = 0.0;
        for (a, b) in self.0.chunks(RUN).zip(self.1.chunks(RUN)) {
            let mut sums = [lanes.splat(0.0); SIDES];
            let steps = a.chunks(SIDES * L::N).zip(b.chunks(SIDES * L::N));
            for (a, b) in steps {
                for (sum, (a, b)) in sums.iter_mut().zip(a.chunks(L::N).zip(b.chunks(L::N))) {
                    *sum = lanes.mul_add(lanes.load(a), lanes.load(b), *sum);
                }
            }
            let [a, b, c, d] = sums;
            total += f64::from(lanes.total(lanes.add(lanes.add(a, b), lanes.add(c, d))));
        }
        total as f32
    }
}

struct Max<'a>(&'a [f32]);

impl Task for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let mut largest = lanes.splat(f32::NEG_INFINITY);
        let mut steps = self.0.chunks_exact(L::N);
        for x in &mut steps {
            largest = lanes.max(lanes.load(x), largest);
        }
        let rest = steps.remainder().iter().copied();
        rest.fold(lanes.largest(largest), f32::max)
    }
}

/// The sum of a row.
pub fn sum(isa: Isa, x: &[f32]) -> f64 {
    dispatch(isa, Sum(Value, x))
}

/// The sum of a row's squares.
pub fn sum_squares(isa: Isa, x: &[f32]) -> f64 {
    dispatch(isa, Sum(Square, x))
}

/// The sums of `x - center` and of its square over a row.
pub fn deviations(isa: Isa, x: &[f32], center: f32) -> (f64, f64) {
    dispatch(isa, Deviations { x, center })
}

/// The largest value of a row, NaNs left out; -inf if there is none.
pub fn max(isa: Isa, x: &[f32]) -> f32 {
    dispatch(isa, Max(x))
}

/// The sum of products of two rows; what one row has more than the other is left out.
pub fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    match (a.get(..n), b.get(..n)) {
        (Some(a), Some(b)) => dispatch(isa, Dot(a, b)),
        _ => 0.0,
    }
}
