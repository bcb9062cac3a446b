//! Norms over the last axis: one pass for the row's sums, one that scales. Sums are exact to F32 or better.

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::{AddRmsNorm, L2Norm, LayerNorm, RmsNorm};

use super::float_rows::{cut, fill_row, row_space};
use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::math;
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

/// What a row is divided by.
#[derive(Clone, Copy)]
enum Divisor {
    /// `sqrt(mean(x^2) + eps)`.
    Rms,
    /// `sqrt(var(x) + eps)`, after the mean is taken off.
    Deviation,
    /// `max(sqrt(sum(x^2)), eps)`.
    Length,
}

/// What a row becomes: `factor * (x - center) + bias`.
#[derive(Clone, Copy)]
struct Line {
    center: f32,
    factor: f32,
    bias: f32,
}

impl Divisor {
    fn line(self, isa: Isa, eps: f32, x: &[f32]) -> Line {
        let (eps, n) = (f64::from(eps), x.len() as f64);
        let through_zero = |divisor: f64| Line {
            center: 0.0,
            factor: (1.0 / divisor) as f32,
            bias: 0.0,
        };
        match self {
            Self::Rms => through_zero((math::sum_squares(isa, x) / n + eps).sqrt()),
            Self::Length => through_zero(math::sum_squares(isa, x).sqrt().max(eps)),
            Self::Deviation => {
                // A centre near the mean, then what it is off by: exact however far the mean is from 0.
                let center = (math::sum(isa, x) / n) as f32;
                let (sum, squares) = math::deviations(isa, x, center);
                let off = sum / n;
                let factor = 1.0 / (squares / n - off * off + eps).sqrt();
                Line {
                    center,
                    factor: factor as f32,
                    bias: (-off * factor) as f32,
                }
            }
        }
    }
}

struct Norm {
    x: In,
    weight: Option<In>,
    out: Out,
    divisor: Divisor,
    eps: f32,
    space: Table<f32>,
    isa: Isa,
}

impl Kernel for Norm {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let [x_space, out_space] = cut(part.own.row(&self.space), self.x.width());
        let weight = self.weight.as_ref().map(In::values::<f32>);
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            let x = self.x.row_f32(row, x_space);
            let Line {
                center,
                factor,
                bias,
            } = self.divisor.line(self.isa, self.eps, x);
            let dtype = self.out.dtype();
            fill_row(&mut rows, dtype, row, out_space, |out| match weight {
                Some(weight) => math::scale_each(self.isa, factor, x, weight, out),
                None => math::scale_deviations(self.isa, center, factor, bias, x, out),
            });
        }
        Ok(())
    }
}

fn norm(
    name: &'static str,
    divisor: Divisor,
    eps: f32,
    weighted: bool,
    request: &Request<'_>,
) -> Choice {
    let isa = request.isa();
    let mut scratch = ScratchLayout::new();
    let space = row_space(&mut scratch, request, &request.input(0), 2);
    Choice::new(name, "rows in F32", scratch, move |args| Norm {
        x: args.input(0),
        weight: weighted.then(|| args.input(1)),
        out: args.output(0),
        divisor,
        eps,
        space: args.table(space),
        isa,
    })
}

/// `x / sqrt(mean(x^2) + eps)`, times a weight if there is one.
pub(crate) fn rms_norm(op: &RmsNorm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (eps, weighted) = (op.eps.0, op.weighted);
    Ok(norm("rms_norm/f32", Divisor::Rms, eps, weighted, request))
}

/// `(x - mean(x)) / sqrt(var(x) + eps)`.
pub(crate) fn layer_norm(op: &LayerNorm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let eps = op.eps.0;
    Ok(norm(
        "layer_norm/f32",
        Divisor::Deviation,
        eps,
        false,
        request,
    ))
}

/// `x / max(sqrt(sum(x^2)), eps)`.
pub(crate) fn l2_norm(op: &L2Norm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let eps = op.eps.0;
    Ok(norm("l2_norm/f32", Divisor::Length, eps, false, request))
}

/// `sum = a + b`, and its weighted RMS norm.
struct AddNorm {
    a: In,
    b: In,
    weight: In,
    sum: Out,
    normed: Out,
    eps: f32,
    space: Table<f32>,
    isa: Isa,
}

impl Kernel for AddNorm {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let [a_space, b_space, sum_space] = cut(part.own.row(&self.space), self.a.width());
        let weight = self.weight.values::<f32>();
        let isa = self.isa;
        if self.sum.n_rows() == 0 {
            return Ok(());
        }
        let mut share = part.work.even(self.sum.n_rows());
        let (mut sums, mut normed) = share.rows_of_two((&self.sum, 1), (&self.normed, 1));
        for row in sums.range() {
            let (a, b) = (self.a.row_f32(row, a_space), self.b.row_f32(row, b_space));
            let (sum_dtype, dtype) = (self.sum.dtype(), self.normed.dtype());
            let mut factor = 0.0;
            fill_row(&mut sums, sum_dtype, row, sum_space, |sum| {
                math::add(isa, a, b, sum);
                factor = Divisor::Rms.line(isa, self.eps, sum).factor;
            });
            // The sum once more, from where it was just written: a's space is free by now.
            let sum: &[f32] = if sum_dtype == ggrs_core::DType::F32 {
                sums.row(row)
            } else {
                sum_space
            };
            fill_row(&mut normed, dtype, row, a_space, |out| {
                math::scale_each(isa, factor, sum, weight, out);
            });
        }
        Ok(())
    }
}

/// Two results: `a + b` and its weighted RMS norm.
pub(crate) fn add_rms_norm(op: &AddRmsNorm, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (eps, isa) = (op.eps.0, request.isa());
    let mut scratch = ScratchLayout::new();
    let space = row_space(&mut scratch, request, &request.input(0), 3);
    let reason = "one pass over both operands";
    Ok(Choice::new(
        "add_rms_norm/f32",
        reason,
        scratch,
        move |args| AddNorm {
            a: args.input(0),
            b: args.input(1),
            weight: args.input(2),
            sum: args.output(0),
            normed: args.output(1),
            eps,
            space: args.table(space),
            isa,
        },
    ))
}
