//! Order and choice: top-k, argsort, argmax, and the router of a mixture of experts. A NaN has no place in an order: it
//! is a fault.

use std::cmp::Ordering;

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::{Argsort, Gating, RouteExperts, SortOrder, TopK, UnaryKind};

use crate::isa::Isa;
use crate::kernel::{Choice, Kernel, Request};
use crate::math;
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

/// Faults if a row holds a NaN.
fn check(role: &'static str, row: usize, x: &[f32]) -> Result<(), Fault> {
    if x.iter().any(|x| x.is_nan()) {
        Err(Fault::NotANumber { role, row })
    } else {
        Ok(())
    }
}

/// Larger first.
fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// The `k` largest: their positions at the start of `order`, which is as long as the row. Largest first, ties by position.
fn largest(x: &[f32], order: &mut [i32], k: usize) {
    /// Up to here a sorted list of the best so far is faster: few values get into it.
    const LIST: usize = 256;
    let value = |i: &i32| {
        let x = usize::try_from(*i).ok().and_then(|i| x.get(i));
        x.copied().unwrap_or(f32::NEG_INFINITY)
    };
    if k > LIST {
        for (i, o) in (0_i32..).zip(order.iter_mut()) {
            *o = i;
        }
        let better = |a: &i32, b: &i32| descending(value(a), value(b)).then(a.cmp(b));
        if k < order.len() {
            order.select_nth_unstable_by(k, better);
        }
        if let Some(best) = order.get_mut(..k) {
            best.sort_unstable_by(better);
        }
        return;
    }
    let mut n = 0;
    let mut least = f32::NEG_INFINITY;
    for (i, x) in (0_i32..).zip(x) {
        if n == k && *x <= least {
            continue;
        }
        // Behind all that are as large or larger.
        let best = order.get(..n).unwrap_or_default();
        let at = best.partition_point(|b| value(b) >= *x);
        n = (n + 1).min(k);
        let Some(best) = order.get_mut(..n) else {
            return;
        };
        if let Some(tail) = best.get_mut(at..) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = i;
            }
        }
        least = best.last().map_or(f32::NEG_INFINITY, value);
    }
}

/// The k largest of each row.
pub(crate) fn top_k(op: &TopK, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let mut scratch = ScratchLayout::new();
    let order = scratch.table::<i32>(request.n_threads(), request.input(0).shape.last().bound());
    let k = op.k;
    Ok(Choice::new(
        "top_k/rows",
        "each row for itself",
        scratch,
        move |args| LargestRows {
            x: args.input(0),
            values: args.output(0),
            positions: args.output(1),
            order: args.table(order),
            k,
        },
    ))
}

struct LargestRows {
    x: In,
    values: Out,
    positions: Out,
    order: Table<i32>,
    k: usize,
}

impl Kernel for LargestRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.values.n_rows());
        let (mut values, mut positions) =
            share.rows_of_two((&self.values, 1), (&self.positions, 1));
        let order = part.own.row(&self.order);
        for row in values.range() {
            let x = self.x.row::<f32>(row);
            check("x", row, x)?;
            largest(x, order, self.k);
            for ((value, position), i) in values
                .row(row)
                .iter_mut()
                .zip(positions.row(row))
                .zip(&*order)
            {
                *position = *i;
                *value = usize::try_from(*i)
                    .ok()
                    .and_then(|i| x.get(i))
                    .copied()
                    .unwrap_or(f32::NAN);
            }
        }
        Ok(())
    }
}

/// The order that sorts each row.
pub(crate) fn argsort(op: &Argsort, _: &Request<'_>) -> Result<Choice, Unsupported> {
    let order = op.order;
    Ok(Choice::new(
        "argsort/rows",
        "each row for itself",
        ScratchLayout::new(),
        move |args| SortRows {
            x: args.input(0),
            out: args.output(0),
            order,
        },
    ))
}

struct SortRows {
    x: In,
    out: Out,
    order: SortOrder,
}

impl Kernel for SortRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        for row in rows.range() {
            let x = self.x.row::<f32>(row);
            check("x", row, x)?;
            let out = rows.row::<i32>(row);
            for (i, o) in (0..).zip(out.iter_mut()) {
                *o = i;
            }
            let value = |i: &i32| {
                usize::try_from(*i)
                    .ok()
                    .and_then(|i| x.get(i))
                    .copied()
                    .unwrap_or(0.0)
            };
            // Positions settle ties, so the order is that of a stable sort.
            out.sort_unstable_by(|a, b| {
                let larger_first = descending(value(a), value(b));
                let order = if self.order == SortOrder::Descending {
                    larger_first
                } else {
                    larger_first.reverse()
                };
                order.then(a.cmp(b))
            });
        }
        Ok(())
    }
}

/// The position of the largest of each row.
pub(crate) fn argmax(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let isa = request.isa();
    Ok(Choice::new(
        "argmax/rows",
        "each row for itself",
        ScratchLayout::new(),
        move |args| LargestOfRows {
            x: args.input(0),
            out: args.output(0),
            isa,
        },
    ))
}

struct LargestOfRows {
    x: In,
    out: Out,
    isa: Isa,
}

impl Kernel for LargestOfRows {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.x.n_rows());
        let start = share.units().start;
        let out = share.elems::<i32>(&self.out, 1);
        for (row, out) in (start..).zip(out) {
            let x = self.x.row::<f32>(row);
            check("x", row, x)?;
            let largest = math::max(self.isa, x);
            let position = x.iter().position(|x| *x == largest).unwrap_or(0);
            *out = i32::try_from(position).unwrap_or(i32::MAX);
        }
        Ok(())
    }
}

/// The router: probabilities, the largest, their weights.
pub(crate) fn route_experts(
    op: &RouteExperts,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    let n_experts = request.input(0).shape.last().bound();
    let mut scratch = ScratchLayout::new();
    let order = scratch.table::<i32>(request.n_threads(), n_experts);
    let space = scratch.table::<f32>(request.n_threads(), n_experts);
    let (op, isa) = (op.clone(), request.isa());
    Ok(Choice::new(
        "route_experts/rows",
        "each token for itself",
        scratch,
        move |args| Router {
            logits: args.input(0),
            weights: args.output(0),
            ids: args.output(1),
            order: args.table(order),
            space: args.table(space),
            op: op.clone(),
            isa,
        },
    ))
}

struct Router {
    logits: In,
    weights: Out,
    ids: Out,
    order: Table<i32>,
    space: Table<f32>,
    op: RouteExperts,
    isa: Isa,
}

impl Router {
    /// The weights of the chosen experts.
    fn weigh(&self, logits: &[f32], ids: &[i32], space: &mut [f32], weights: &mut [f32]) {
        let total = match self.op.gating {
            Gating::Softmax => {
                let max = math::max(self.isa, logits);
                for (e, x) in space.iter_mut().zip(logits) {
                    *e = x - max;
                }
                math::unary_in_place(self.isa, UnaryKind::Exp, space);
                math::sum(self.isa, space) as f32
            }
            Gating::Sigmoid => {
                math::unary(self.isa, UnaryKind::Sigmoid, logits, space);
                1.0
            }
        };
        for (weight, id) in weights.iter_mut().zip(ids) {
            *weight = usize::try_from(*id)
                .ok()
                .and_then(|id| space.get(id))
                .map_or(f32::NAN, |p| p / total);
        }
        let mut factor = self.op.scale.0;
        if self.op.normalise {
            let sum: f32 = weights.iter().sum();
            factor /= sum.max(RouteExperts::MIN_SUM);
        }
        for weight in weights {
            *weight *= factor;
        }
    }
}

impl Kernel for Router {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        const ROLE: &str = "router logits";
        let mut share = part.work.even(self.weights.n_rows());
        let (mut weights, mut ids) = share.rows_of_two((&self.weights, 1), (&self.ids, 1));
        let (order, space) = part.own.rows_of_two(&self.order, &self.space);
        for row in weights.range() {
            let logits = self.logits.row::<f32>(row);
            check(ROLE, row, logits)?;
            // Probabilities grow with logits, which have no ties that rounding makes.
            largest(logits, order, self.op.n_used);
            let chosen = ids.row::<i32>(row);
            chosen.copy_from_slice(order.get(..chosen.len()).unwrap_or_default());
            let weights = weights.row(row);
            self.weigh(logits, chosen, space, weights);
            // Infinite logits have no weights.
            check(ROLE, row, weights)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_by_list_and_by_sorting() {
        // Many ties, in no order.
        let x: Vec<f32> = (0..1000_u32).map(|i| (i * 7919 % 101) as f32).collect();
        let mut expected: Vec<i32> = (0..1000).collect();
        expected.sort_by(|a, b| descending(x[*a as usize], x[*b as usize]));
        for k in [1, 2, 255, 256, 257, 999, 1000] {
            let mut order = vec![-1; 1000];
            largest(&x, &mut order, k);
            assert_eq!(order[..k], expected[..k], "{k}");
        }
    }
}
