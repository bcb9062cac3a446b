//! Scaling and adding rows.

use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// `out = factor * x + bias`.
struct Scale<'a> {
    factor: f32,
    bias: f32,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Task for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (factor, bias) = (lanes.splat(self.factor), lanes.splat(self.bias));
        for (x, out) in self.x.chunks(L::N).zip(self.out.chunks_mut(L::N)) {
            lanes.store(lanes.mul_add(lanes.load(x), factor, bias), out);
        }
    }
}

/// `x *= factor`.
struct ScaleInPlace<'a> {
    factor: f32,
    x: &'a mut [f32],
}

impl Task for ScaleInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let factor = lanes.splat(self.factor);
        for x in self.x.chunks_mut(L::N) {
            lanes.store(lanes.mul(lanes.load(x), factor), x);
        }
    }
}

/// `out = factor * (x - center) + bias`.
struct ScaleDeviations<'a> {
    center: f32,
    factor: f32,
    bias: f32,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Task for ScaleDeviations<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (factor, bias) = (lanes.splat(self.factor), lanes.splat(self.bias));
        let center = lanes.splat(self.center);
        for (x, out) in self.x.chunks(L::N).zip(self.out.chunks_mut(L::N)) {
            let x = lanes.sub(lanes.load(x), center);
            lanes.store(lanes.mul_add(x, factor, bias), out);
        }
    }
}

/// `out = factor * x * weights`.
struct ScaleEach<'a> {
    factor: f32,
    x: &'a [f32],
    weights: &'a [f32],
    out: &'a mut [f32],
}

impl Task for ScaleEach<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let factor = lanes.splat(self.factor);
        let ins = self.x.chunks(L::N).zip(self.weights.chunks(L::N));
        for ((x, w), out) in ins.zip(self.out.chunks_mut(L::N)) {
            let x = lanes.mul(lanes.load(x), factor);
            lanes.store(lanes.mul(x, lanes.load(w)), out);
        }
    }
}

/// `out = a + b`.
struct Add<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
}

impl Task for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let ins = self.a.chunks(L::N).zip(self.b.chunks(L::N));
        for ((a, b), out) in ins.zip(self.out.chunks_mut(L::N)) {
            lanes.store(lanes.add(lanes.load(a), lanes.load(b)), out);
        }
    }
}

/// `y += a * x`.
struct Axpy<'a> {
    a: f32,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Task for Axpy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let a = lanes.splat(self.a);
        for (x, y) in self.x.chunks(L::N).zip(self.y.chunks_mut(L::N)) {
            lanes.store(lanes.mul_add(lanes.load(x), a, lanes.load(y)), y);
        }
    }
}

/// The first `n` elements of rows that have them.
fn first(n: usize, x: &[f32]) -> &[f32] {
    x.get(..n).unwrap_or_default()
}

/// The rows up to the length of the shorter one.
fn same_length<'a>(x: &'a [f32], y: &'a mut [f32]) -> (&'a [f32], &'a mut [f32]) {
    let n = x.len().min(y.len());
    (first(n, x), y.get_mut(..n).unwrap_or_default())
}

/// `out[i] = factor * x[i] + bias`; what one row has more than the other is left alone.
pub fn scale(isa: Isa, factor: f32, bias: f32, x: &[f32], out: &mut [f32]) {
    let (x, out) = same_length(x, out);
    dispatch(
        isa,
        Scale {
            factor,
            bias,
            x,
            out,
        },
    );
}

/// `out[i] = factor * (x[i] - center) + bias`; what one row has more than the other is left alone.
pub fn scale_deviations(isa: Isa, center: f32, factor: f32, bias: f32, x: &[f32], out: &mut [f32]) {
    let (x, out) = same_length(x, out);
    let task = ScaleDeviations {
        center,
        factor,
        bias,
        x,
        out,
    };
    dispatch(isa, task);
}

/// `x[i] *= factor`.
pub fn scale_in_place(isa: Isa, factor: f32, x: &mut [f32]) {
    dispatch(isa, ScaleInPlace { factor, x });
}

/// `out[i] = factor * x[i] * weights[i]`; what one row has more than the others is left alone.
pub fn scale_each(isa: Isa, factor: f32, x: &[f32], weights: &[f32], out: &mut [f32]) {
    let (x, out) = same_length(x, out);
    let (weights, out) = same_length(weights, out);
    let x = first(out.len(), x);
    dispatch(
        isa,
        ScaleEach {
            factor,
            x,
            weights,
            out,
        },
    );
}

/// `out[i] = a[i] + b[i]`; what one row has more than the others is left alone.
pub fn add(isa: Isa, a: &[f32], b: &[f32], out: &mut [f32]) {
    let (a, out) = same_length(a, out);
    let (b, out) = same_length(b, out);
    let a = first(out.len(), a);
    dispatch(isa, Add { a, b, out });
}

/// `y[i] += a * x[i]`; what one row has more than the other is left alone.
pub fn axpy(isa: Isa, a: f32, x: &[f32], y: &mut [f32]) {
    let (x, y) = same_length(x, y);
    dispatch(isa, Axpy { a, x, y });
}
