//! Arithmetic and functions of each element: add, sub, mul, div, scale, clamp and the unary functions.

use bytemuck::{Pod, Zeroable};
use ggrs_core::Unsupported;
use ggrs_core::ops::{Binary, Clamp, OpSpec, Scale, Unary};

use super::axes::{Axes, Place, Walk, bytes_of_float};
use crate::kernel::{Choice, Launch, ModuleKey, Request};
use crate::params::View;

/// `MapParams` of `elementwise.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MapParams {
    axes: Axes,
    a: u64,
    b: u64,
    out: u64,
    dtypes: [i32; 3],
    kind: i32,
    alpha: f32,
    beta: f32,
}

const _: () = assert!(size_of::<MapParams>() == 240);

/// `LinearKind` of `elementwise.cu`.
const AS_IT_IS: i32 = 0;
const SCALE: i32 = 1;
const CLAMP: i32 = 2;

const REASON: &str = "a thread for four elements that lie side by side, else for one";

/// A function of the elements of one or two tensors.
#[derive(Clone, Copy)]
pub(super) struct Map {
    /// The kernels for four neighbours and for one element.
    kernels: [&'static str; 2],
    kind: i32,
    alpha: f32,
    beta: f32,
}

impl Map {
    const fn new(kernels: [&'static str; 2], kind: i32) -> Self {
        Self {
            kernels,
            kind,
            alpha: 0.0,
            beta: 0.0,
        }
    }

    const fn linear(kind: i32, alpha: f32, beta: f32) -> Self {
        Self {
            alpha,
            beta,
            ..Self::new(["linear_4", "linear_1"], kind)
        }
    }

    /// Floats in the result's dtype.
    pub(super) const fn converted() -> Self {
        Self::linear(AS_IT_IS, 0.0, 0.0)
    }

    /// A gated linear unit of gate and up.
    pub(super) const fn gated(kind: i32) -> Self {
        Self::new(["glu_4", "glu_1"], kind)
    }

    /// The launch; `b`, if there is one, and `a` are repeated to the result's shape.
    pub(super) fn launches(self, a: &View, b: Option<&View>, out: &View) -> Vec<Launch> {
        if out.elems() == 0 {
            return Vec::new();
        }
        let walk = Walk::elements(out, [Some(a), b, Some(out)]);
        let mut places = vec![place(0, a), place(2, out)];
        places.extend(b.map(|b| place(1, b)));
        let [by_fours, by_ones] = self.kernels;
        let (kernel, walk) = match walk.in_steps(4, &places) {
            Some(steps) => (by_fours, steps),
            None => (by_ones, walk),
        };
        let params = MapParams {
            axes: walk.axes(),
            a: a.data,
            b: b.map_or(0, |b| b.data),
            out: out.data,
            dtypes: [a.dtype, b.map_or(a.dtype, |b| b.dtype), out.dtype],
            kind: self.kind,
            alpha: self.alpha,
            beta: self.beta,
        };
        let module = ModuleKey::plain("elementwise");
        vec![params.axes.launch(module, kernel, &params)]
    }

    /// The choice of an op with one operand.
    fn of_one(self, stem: &str) -> Choice {
        Choice::new(format!("{stem}/elements"), REASON, move |args| {
            self.launches(&args.input(0), None, &args.output(0))
        })
    }

    /// The choice of an op with two.
    pub(super) fn of_two(self, stem: &str) -> Choice {
        Choice::new(format!("{stem}/elements"), REASON, move |args| {
            self.launches(&args.input(0), Some(&args.input(1)), &args.output(0))
        })
    }
}

/// A view of floats as one of a walk's tensors.
fn place(tensor: usize, view: &View) -> Place {
    Place {
        tensor,
        data: view.data,
        bytes: bytes_of_float(view.dtype),
    }
}

/// lhs (op) rhs.
pub(crate) fn binary(op: &Binary, _: &Request<'_>) -> Result<Choice, Unsupported> {
    let map = Map::new(["binary_4", "binary_1"], op.kind as i32);
    Ok(map.of_two(op.stem()))
}

/// scale * x + bias.
pub(crate) fn scale(op: &Scale, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(Map::linear(SCALE, op.scale.0, op.bias.0).of_one(op.stem()))
}

/// x limited to min..=max; a NaN stays one.
pub(crate) fn clamp(op: &Clamp, _: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(Map::linear(CLAMP, op.min.0, op.max.0).of_one(op.stem()))
}

/// A function of each element.
pub(crate) fn unary(op: &Unary, _: &Request<'_>) -> Result<Choice, Unsupported> {
    let map = Map::new(["unary_4", "unary_1"], op.kind as i32);
    Ok(map.of_one(op.stem()))
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("elementwise")]
}
