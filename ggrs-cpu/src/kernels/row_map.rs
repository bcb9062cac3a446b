//! Functions of rows: the shape that elementwise kernels share. It must not know which functions.
//!
//! Where everything is F32 without gaps and of one shape, rows mean nothing: the elements are cut in equal runs. Else rows
//! are read as F32 (repeated where an operand is 1 wide), computed, and written in the result's dtype.

use ggrs_core::error::Fault;
use ggrs_core::{DType, TensorDesc};

use crate::kernel::{Args, Choice, Kernel, Request};
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Slot, Table};

/// Elements in a run of work.
const RUN: usize = 4096;

/// Can a row of this tensor be used where it lies?
fn is_plain(desc: &TensorDesc) -> bool {
    desc.dtype == DType::F32
        && desc
            .layout
            .contiguous_from(&desc.shape, desc.rank().saturating_sub(1))
}

/// A kernel for `out[i] = f(x0[i], x1[i], ..)` over the first `N` operands, broadcast to the result's shape.
///
/// `f` gets rows, or runs of elements, of equal length.
pub(crate) fn row_map<const N: usize, F>(stem: &str, request: &Request<'_>, f: F) -> Choice
where
    F: Fn([&[f32]; N], &mut [f32]) + Copy + Send + Sync + 'static,
{
    let out = request.output(0);
    let inputs: Vec<_> = (0..N).map(|i| request.input(i)).collect();
    let flat = out.dtype == DType::F32
        && inputs
            .iter()
            .all(|x| x.dtype == DType::F32 && x.is_contiguous() && x.shape == out.shape);
    let mut scratch = ScratchLayout::new();
    if flat {
        return Choice::new(
            format!("{stem}/flat"),
            "F32 without gaps: in runs of elements",
            scratch,
            move |args| Flat {
                inputs: operands(args, false),
                out: args.output(0),
                f,
            },
        );
    }
    let plain = is_plain(&out)
        && inputs
            .iter()
            .all(|x| is_plain(x) && x.shape.last() == out.shape.last());
    let width = out.shape.last().bound();
    let space = scratch.table(request.n_threads(), if plain { 0 } else { width * (N + 1) });
    let (variant, reason) = if plain {
        ("rows", "F32 rows, used where they lie")
    } else {
        (
            "converted",
            "rows are read as F32 and written in the result's dtype",
        )
    };
    Choice::new(format!("{stem}/{variant}"), reason, scratch, move |args| {
        RowMap::new(args, space, plain, f)
    })
}

fn operands<const N: usize>(args: &Args<'_>, broadcast: bool) -> [In; N] {
    let out = args.output(0);
    std::array::from_fn(|i| {
        let x = args.input(i);
        if broadcast {
            x.broadcast(out.shape())
        } else {
            x
        }
    })
}

/// Runs of elements.
struct Flat<const N: usize, F> {
    inputs: [In; N],
    out: Out,
    f: F,
}

impl<const N: usize, F: Fn([&[f32]; N], &mut [f32]) + Send + Sync> Kernel for Flat<N, F> {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.grid().n_elems().div_ceil(RUN));
        let start = share.units().start * RUN;
        let out = share.elems::<f32>(&self.out, RUN);
        let inputs = self
            .inputs
            .each_ref()
            .map(|x| x.values().get(start..start + out.len()).unwrap_or_default());
        (self.f)(inputs, out);
        Ok(())
    }
}

/// Rows.
struct RowMap<const N: usize, F> {
    inputs: [In; N],
    out: Out,
    space: Table<f32>,
    plain: bool,
    f: F,
}

impl<const N: usize, F> RowMap<N, F> {
    fn new(args: &Args<'_>, space: Slot<f32>, plain: bool, f: F) -> Self {
        Self {
            inputs: operands(args, true),
            out: args.output(0),
            space: args.table(space),
            plain,
            f,
        }
    }
}

impl<const N: usize, F: Fn([&[f32]; N], &mut [f32]) + Send + Sync> Kernel for RowMap<N, F> {
    fn run(&self, _: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let mut share = part.work.even(self.out.n_rows());
        let mut rows = share.rows(&self.out, 1);
        if self.plain {
            for row in rows.range() {
                (self.f)(self.inputs.each_ref().map(|x| x.row(row)), rows.row(row));
            }
            return Ok(());
        }
        let width = self.out.width();
        if width == 0 {
            return Ok(());
        }
        let space = part.own.row(&self.space);
        let (result, operands) = space.split_at_mut(width.min(space.len()));
        for row in rows.range() {
            let mut spaces = operands.chunks_exact_mut(width);
            let values = self
                .inputs
                .each_ref()
                .map(|x| x.row_f32(row, spaces.next().unwrap_or_default()));
            (self.f)(values, result);
            rows.write(row, result);
        }
        Ok(())
    }
}
