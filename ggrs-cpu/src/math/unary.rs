//! The unary functions over whole rows, plain or as the gate of a gated linear unit.

use ggrs_core::ops::UnaryKind;

use super::exponential::{exp, negate, normal, sigmoid, softplus, tanh};
use super::lanes::{Lanes, Task, dispatch};
use crate::isa::Isa;

/// A function of each lane.
trait Function {
    fn value<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats;
}

/// Declares functions of one lane vector.
macro_rules! functions {
    ($($name:ident: |$lanes:ident, $x:ident| $value:expr;)*) => {$(
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn value<L: Lanes>($lanes: L, $x: L::Floats) -> L::Floats {
                $value
            }
        }
    )*};
}

/// `2 sqrt(2 / pi)`: `(1 + tanh u) / 2` is the sigmoid of `2 u`.
const GELU_FACTOR: f32 = 1.595_769;
const GELU_CUBE: f32 = 0.044_715;

functions! {
    Exp: |lanes, x| exp(lanes, x);
    Sigmoid: |lanes, x| sigmoid(lanes, x);
    Silu: |lanes, x| lanes.mul(x, sigmoid(lanes, x));
    Tanh: |lanes, x| tanh(lanes, x);
    Softplus: |lanes, x| softplus(lanes, x);
    Gelu: |lanes, x| {
        let cube = lanes.mul(lanes.mul(lanes.mul(x, x), x), lanes.splat(GELU_CUBE));
        let u = lanes.mul(lanes.add(x, cube), lanes.splat(GELU_FACTOR));
        lanes.mul(x, sigmoid(lanes, u))
    };
    GeluErf: |lanes, x| lanes.mul(x, normal(lanes, x));
    GeluQuick: |lanes, x| lanes.mul(x, sigmoid(lanes, lanes.mul(x, lanes.splat(1.702))));
    Neg: |lanes, x| negate(lanes, x);
    // The limit first: a NaN in the second operand stays.
    Relu: |lanes, x| lanes.max(lanes.splat(0.0), x);
    Sqr: |lanes, x| lanes.mul(x, x);
    Sqrt: |lanes, x| lanes.sqrt(x);
}

/// Where values come from and go to.
trait Rows {
    /// Applies a function of lanes.
    fn vectors<F: Function, L: Lanes>(self, lanes: L);

    /// Applies a function of one value.
    fn each(self, f: impl Fn(f32) -> f32);
}

/// From one row to another.
struct Apart<'a>(&'a [f32], &'a mut [f32]);

impl Rows for Apart<'_> {
    #[inline(always)]
    fn vectors<F: Function, L: Lanes>(self, lanes: L) {
        for (x, out) in self.0.chunks(L::N).zip(self.1.chunks_mut(L::N)) {
            lanes.store(F::value(lanes, lanes.load(x)), out);
        }
    }

    fn each(self, f: impl Fn(f32) -> f32) {
        for (x, out) in self.0.iter().zip(self.1) {
            *out = f(*x);
        }
    }
}

/// Over the row itself.
struct InPlace<'a>(&'a mut [f32]);

impl Rows for InPlace<'_> {
    #[inline(always)]
    fn vectors<F: Function, L: Lanes>(self, lanes: L) {
        for x in self.0.chunks_mut(L::N) {
            lanes.store(F::value(lanes, lanes.load(x)), x);
        }
    }

    fn each(self, f: impl Fn(f32) -> f32) {
        for x in self.0 {
            *x = f(*x);
        }
    }
}

/// The function of a gate times another row.
struct Gated<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Rows for Gated<'_> {
    #[inline(always)]
    fn vectors<F: Function, L: Lanes>(self, lanes: L) {
        let ins = self.gate.chunks(L::N).zip(self.up.chunks(L::N));
        for ((gate, up), out) in ins.zip(self.out.chunks_mut(L::N)) {
            let gate = F::value(lanes, lanes.load(gate));
            lanes.store(lanes.mul(gate, lanes.load(up)), out);
        }
    }

    fn each(self, f: impl Fn(f32) -> f32) {
        for ((gate, up), out) in self.gate.iter().zip(self.up).zip(self.out) {
            *out = f(*gate) * up;
        }
    }
}

struct Apply<F, R>(R, std::marker::PhantomData<F>);

impl<F: Function, R: Rows> Task for Apply<F, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        self.0.vectors::<F, L>(lanes);
    }
}

fn apply(isa: Isa, kind: UnaryKind, rows: impl Rows) {
    fn vectors<F: Function>(isa: Isa, rows: impl Rows) {
        dispatch(isa, Apply::<F, _>(rows, std::marker::PhantomData));
    }
    match kind {
        UnaryKind::Silu => vectors::<Silu>(isa, rows),
        UnaryKind::Sigmoid => vectors::<Sigmoid>(isa, rows),
        UnaryKind::Softplus => vectors::<Softplus>(isa, rows),
        UnaryKind::Tanh => vectors::<Tanh>(isa, rows),
        UnaryKind::Gelu => vectors::<Gelu>(isa, rows),
        UnaryKind::GeluErf => vectors::<GeluErf>(isa, rows),
        UnaryKind::GeluQuick => vectors::<GeluQuick>(isa, rows),
        UnaryKind::Exp => vectors::<Exp>(isa, rows),
        UnaryKind::Neg => vectors::<Neg>(isa, rows),
        UnaryKind::Relu => vectors::<Relu>(isa, rows),
        UnaryKind::Sqr => vectors::<Sqr>(isa, rows),
        UnaryKind::Sqrt => vectors::<Sqrt>(isa, rows),
        // Large angles need an exact reduction; the standard library has it.
        UnaryKind::Sin => rows.each(f32::sin),
        UnaryKind::Cos => rows.each(f32::cos),
    }
}

/// `out[i] = f(x[i])`; what one row has more than the other is left alone.
pub fn unary(isa: Isa, kind: UnaryKind, x: &[f32], out: &mut [f32]) {
    let n = x.len().min(out.len());
    if let (Some(x), Some(out)) = (x.get(..n), out.get_mut(..n)) {
        apply(isa, kind, Apart(x, out));
    }
}

/// `x[i] = f(x[i])`.
pub fn unary_in_place(isa: Isa, kind: UnaryKind, x: &mut [f32]) {
    apply(isa, kind, InPlace(x));
}

/// `out[i] = f(gate[i]) * up[i]`; what one row has more than the others is left alone.
pub fn gated(isa: Isa, kind: UnaryKind, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = gate.len().min(up.len()).min(out.len());
    if let (Some(gate), Some(up), Some(out)) = (gate.get(..n), up.get(..n), out.get_mut(..n)) {
        apply(isa, kind, Gated { gate, up, out });
    }
}
