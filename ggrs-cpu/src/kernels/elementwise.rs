//! Arithmetic and functions of each element: add, sub, mul, div, scale, clamp and the unary functions.

use ggrs_core::Unsupported;
use ggrs_core::ops::{Binary, BinaryKind, Clamp, OpSpec, Scale, Unary};

use super::row_map::row_map;
use crate::isa::Isa;
use crate::kernel::{Choice, Request};
use crate::math::{self, Lanes, Task, dispatch};

/// lhs (op) rhs.
pub(crate) fn binary(op: &Binary, request: &Request<'_>) -> Result<Choice, Unsupported> {
    fn choose<A: Arithmetic>(op: &Binary, request: &Request<'_>, _: A) -> Choice {
        let isa = request.isa();
        row_map(op.stem(), request, move |[a, b], out| {
            combine::<A>(isa, a, b, out)
        })
    }
    Ok(match op.kind {
        BinaryKind::Add => choose(op, request, Add),
        BinaryKind::Sub => choose(op, request, Sub),
        BinaryKind::Mul => choose(op, request, Mul),
        BinaryKind::Div => choose(op, request, Div),
    })
}

/// scale * x + bias.
pub(crate) fn scale(op: &Scale, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (isa, scale, bias) = (request.isa(), op.scale.0, op.bias.0);
    Ok(row_map(op.stem(), request, move |[x], out| {
        dispatch(
            isa,
            Linear {
                x,
                scale,
                bias,
                out,
            },
        )
    }))
}

/// x limited to min..=max; a NaN stays one.
pub(crate) fn clamp(op: &Clamp, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (isa, min, max) = (request.isa(), op.min.0, op.max.0);
    Ok(row_map(op.stem(), request, move |[x], out| {
        dispatch(isa, Limit { x, min, max, out })
    }))
}

/// A function of each element.
pub(crate) fn unary(op: &Unary, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (isa, kind) = (request.isa(), op.kind);
    Ok(row_map(op.stem(), request, move |[x], out| {
        math::unary(isa, kind, x, out)
    }))
}

/// An arithmetic of two vectors.
trait Arithmetic: Copy + Send + Sync + 'static {
    fn value<L: Lanes>(lanes: L, a: L::Floats, b: L::Floats) -> L::Floats;
}

macro_rules! arithmetic {
    ($($name:ident $method:ident),*) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Arithmetic for $name {
            #[inline(always)]
            fn value<L: Lanes>(lanes: L, a: L::Floats, b: L::Floats) -> L::Floats {
                lanes.$method(a, b)
            }
        }
    )*};
}

arithmetic!(Add add, Sub sub, Mul mul, Div div);

struct Combine<'a, A> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
    arithmetic: std::marker::PhantomData<A>,
}

impl<A: Arithmetic> Task for Combine<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let pairs = self.a.chunks(L::N).zip(self.b.chunks(L::N));
        for ((a, b), out) in pairs.zip(self.out.chunks_mut(L::N)) {
            lanes.store(A::value(lanes, lanes.load(a), lanes.load(b)), out);
        }
    }
}

fn combine<A: Arithmetic>(isa: Isa, a: &[f32], b: &[f32], out: &mut [f32]) {
    dispatch(
        isa,
        Combine::<A> {
            a,
            b,
            out,
            arithmetic: std::marker::PhantomData,
        },
    );
}

struct Linear<'a> {
    x: &'a [f32],
    scale: f32,
    bias: f32,
    out: &'a mut [f32],
}

impl Task for Linear<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (scale, bias) = (lanes.splat(self.scale), lanes.splat(self.bias));
        for (x, out) in self.x.chunks(L::N).zip(self.out.chunks_mut(L::N)) {
            lanes.store(lanes.mul_add(lanes.load(x), scale, bias), out);
        }
    }
}

struct Limit<'a> {
    x: &'a [f32],
    min: f32,
    max: f32,
    out: &'a mut [f32],
}

impl Task for Limit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (min, max) = (lanes.splat(self.min), lanes.splat(self.max));
        for (x, out) in self.x.chunks(L::N).zip(self.out.chunks_mut(L::N)) {
            // The limits first: a NaN in the second operand stays.
            lanes.store(lanes.min(max, lanes.max(min, lanes.load(x))), out);
        }
    }
}
