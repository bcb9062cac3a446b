//! Moving elements: gapless copies, casts, joins, rows by id.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{self, Concat};
use ggrs_core::{DType, Unsupported};

use super::axes::{Axes, Place, TENSORS, Walk, strides};
use super::elementwise::Map;
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request};
use crate::params::{FaultCell, View};
use crate::planes::Planes;

/// `CopyParams` of `movement.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CopyParams {
    axes: Axes,
    from: u64,
    to: u64,
}

/// `ConvertParams` of `movement.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ConvertParams {
    axes: Axes,
    planes: Planes,
    x: u64,
    out: u64,
    dtype: i32,
    out_dtype: i32,
}

/// `QuantiseParams` of `quantise.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct QuantiseParams {
    axes: Axes,
    planes: Planes,
    x: u64,
    out: u64,
    step: i64,
    dtype: i32,
    out_dtype: i32,
    block_bytes: i32,
    pad: i32,
}

/// `GetRowsParams` of `movement.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GetRowsParams {
    axes: Axes,
    planes: Planes,
    table: u64,
    ids: u64,
    out: u64,
    fault: FaultCell,
    row_stride: i64,
    first: i64,
    n: i64,
    total: i64,
    width: i32,
    dtype: i32,
    ids_dtype: i32,
    pad: i32,
}

const _: () = assert!(size_of::<CopyParams>() == 208);
const _: () = assert!(size_of::<ConvertParams>() == 264);
const _: () = assert!(size_of::<QuantiseParams>() == 280);
const _: () = assert!(size_of::<GetRowsParams>() == 328);

const MODULE: ModuleKey = ModuleKey::plain("movement");

/// Elements of the blocks that can be written.
const BLOCK: u32 = 32;

const fn i64_of(n: usize) -> i64 {
    n as i64
}

/// Sizes and strides of views of one dtype in bytes: of whole elements, or of rows where all have theirs without gaps.
fn in_bytes<const N: usize>(shape: &View, dtype: DType, views: [&View; N]) -> (Walk, bool) {
    let (elems, bytes) = (i64_of(dtype.block_elems()), i64_of(dtype.block_bytes()));
    let gapless = views.iter().all(|v| v.stride[4] == 1 || v.size[4] == 1);
    let mut sizes = shape.size.map(|n| u64::from(n.unsigned_abs()));
    let mut all = [[0; 5]; TENSORS];
    for (to, view) in all.iter_mut().zip(views) {
        *to = strides(view).map(|s| s / elems * bytes);
        if gapless {
            to[4] = 1;
        }
    }
    if gapless {
        let width = sizes[4] / dtype.block_elems() as u64;
        sizes[4] = width * dtype.block_bytes() as u64;
    }
    (Walk::new(&sizes, all), gapless)
}

/// The kernels that copy, by the bytes that a thread moves.
const COPIES: [(u64, &str); 5] = [
    (16, "copy_16"),
    (8, "copy_8"),
    (4, "copy_4"),
    (2, "copy_2"),
    (1, "copy_1"),
];

/// Copies a view into another of its dtype and shape.
pub(super) fn copy(dtype: DType, from: &View, to: &View) -> Vec<Launch> {
    if to.elems() == 0 {
        return Vec::new();
    }
    let (walk, gapless) = in_bytes(to, dtype, [from, to]);
    let place = |tensor, view: &View| Place {
        tensor,
        data: view.data,
        bytes: 1,
    };
    let places = [place(0, from), place(1, to)];
    let unit = COPIES.into_iter().find_map(|(unit, kernel)| {
        if gapless {
            Some((kernel, walk.in_steps(unit, &places)?))
        } else {
            (unit == dtype.block_bytes() as u64).then(|| (kernel, walk.clone()))
        }
    });
    let Some((kernel, walk)) = unit else {
        return Vec::new();
    };
    let params = CopyParams {
        axes: walk.axes(),
        from: from.data,
        to: to.data,
    };
    vec![params.axes.launch(MODULE, kernel, &params)]
}

/// Copies a view into another of its shape and another dtype.
pub(super) fn convert(
    (from, x, planes): (DType, &View, Planes),
    (to, out): (DType, &View),
) -> Vec<Launch> {
    if from == to {
        return copy(from, x, out);
    }
    if out.elems() == 0 {
        return Vec::new();
    }
    if to.is_block() {
        return quantise((x, planes), (to, out));
    }
    let kernel = match (to.is_int(), from.is_block()) {
        (true, _) => "cast_integers",
        (false, true) => "decode",
        (false, false) => return Map::converted().launches(x, None, out),
    };
    let params = ConvertParams {
        axes: Walk::elements(out, [Some(x), Some(out), None]).axes(),
        planes,
        x: x.data,
        out: out.data,
        dtype: x.dtype,
        out_dtype: out.dtype,
    };
    vec![params.axes.launch(MODULE, kernel, &params)]
}

/// Writes blocks; 32 lanes for each.
fn quantise((x, planes): (&View, Planes), (to, out): (DType, &View)) -> Vec<Launch> {
    let block = i64::from(BLOCK);
    let mut sizes = out.size.map(|n| u64::from(n.unsigned_abs()));
    sizes[4] /= u64::from(BLOCK);
    let mut of_x = strides(x);
    of_x[4] *= block;
    let mut of_out = strides(out).map(|s| s / block);
    of_out[4] = 1;
    let params = QuantiseParams {
        axes: Walk::new(&sizes, [of_x, of_out, [0; 5]]).axes(),
        planes,
        x: x.data,
        out: out.data,
        step: x.stride[4],
        dtype: x.dtype,
        out_dtype: out.dtype,
        block_bytes: to.block_bytes() as i32,
        pad: 0,
    };
    let (module, threads) = (ModuleKey::plain("quantise"), super::axes::THREADS);
    let blocks = params.axes.blocks(threads / BLOCK);
    vec![Launch::new(module, "quantise", blocks, threads, &params)]
}

/// A gapless copy of any view.
pub(crate) fn contiguous(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let dtype = request.input(0).dtype;
    let reason = "up to 16 bytes for each thread";
    Ok(Choice::new("contiguous/copy", reason, move |args| {
        copy(dtype, &args.input(0), &args.output(0))
    }))
}

/// How elements of one dtype become another's.
pub(super) fn variant(from: DType, to: DType) -> (&'static str, &'static str) {
    if from == to {
        ("copy", "up to 16 bytes for each thread")
    } else if to.is_int() {
        ("integers", "integers by value")
    } else if to.is_block() {
        ("quantise", "32 threads for each block")
    } else if from.is_block() {
        ("decode", "a thread for each element of a block")
    } else {
        ("floats", "floats are read as F32 and rounded once")
    }
}

/// A copy in another dtype.
pub(crate) fn cast(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (from, to) = (request.input(0).dtype, request.output(0).dtype);
    let (variant, reason) = variant(from, to);
    Ok(Choice::new(
        format!("cast/{variant}"),
        reason,
        move |args| {
            convert(
                (from, &args.input(0), args.planes(0)),
                (to, &args.output(0)),
            )
        },
    ))
}

/// Tensors joined along an axis.
pub(crate) fn concat(op: &Concat, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let dtype = request.output(0).dtype;
    // Views have five axes.
    let axis = (op.axis + 5).saturating_sub(request.output(0).rank());
    let reason = "a copy of each operand";
    Ok(Choice::new("concat/copies", reason, move |args| {
        let whole = args.output(0);
        let mut start = 0;
        let mut launches = Vec::new();
        for i in 0..args.inputs.len() {
            let (x, mut part) = (args.input(i), whole);
            let (Some(n), Some(stride)) = (x.size.get(axis), whole.stride.get(axis)) else {
                continue;
            };
            let skip = i64::from(start) * stride / i64_of(dtype.block_elems());
            part.size = x.size;
            part.data = part
                .data
                .wrapping_add_signed(skip * i64_of(dtype.block_bytes()));
            launches.extend(copy(dtype, &x, &part));
            start += n;
        }
        launches
    }))
}

/// Which rows of a table are here.
#[derive(Clone, Copy)]
struct Held {
    first: i64,
    n: i64,
    total: i64,
}

/// Rows picked by id; those that are not held here are zeros.
pub(crate) fn get_rows(op: &ops::GetRows, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let table = request.input(0);
    let (dtype, window) = (table.dtype, op.window);
    let sizes = table.shape.sizes();
    let n = sizes.iter().rev().nth(1).copied().unwrap_or(0);
    let bound = window.map_or(n, |w| w.total);
    let held = Held {
        first: window.map_or(0, |w| i64_of(w.first)),
        n: i64_of(n),
        total: i64_of(bound),
    };
    let (variant, reason) = if dtype == DType::F32 || dtype.is_int() {
        ("copy", "rows as they are")
    } else if request.is_packed(0) {
        ("packed", "rows taken out of their planes, as F32")
    } else {
        ("native", "rows read as F32")
    };
    let choice = Choice::new(format!("get_rows/{variant}"), reason, move |args| {
        pick(dtype, held, args)
    });
    Ok(choice.fault(FaultKind::IndexOutOfRange { role: "ids", bound }))
}

fn pick(dtype: DType, held: Held, args: &Args<'_>) -> Vec<Launch> {
    let (table, ids, out) = (args.input(0), args.input(1), args.output(0));
    if out.elems() == 0 {
        return Vec::new();
    }
    // Ids have one axis fewer; the table's rows are walked by id.
    let mut of_ids = strides(&ids);
    of_ids.rotate_left(1);
    of_ids[4] = 0;
    let mut of_table = strides(&table);
    of_table[3] = 0;
    let mut sizes = out.size.map(|n| u64::from(n.unsigned_abs()));
    let copies = dtype == DType::F32 || dtype.is_int();
    let bytes = if copies { dtype.block_bytes() } else { 1 };
    let of_table = of_table.map(|s| s * i64_of(bytes));
    let of_table = [of_table[0], of_table[1], of_table[2], 0, 1];
    sizes[4] *= bytes as u64;
    let walk = Walk::new(&sizes, [of_ids, of_table, [0; 5]]);
    let row_stride = table.stride[3] * i64_of(bytes);
    let place = |data| Place {
        tensor: 1,
        data,
        bytes: 1,
    };
    // Rows lie at any multiple of their stride, and those of the result one behind the other.
    let aligned = row_stride % 16 == 0 && sizes[4] % 16 == 0 && out.data % 16 == 0;
    let by_16 = (copies && aligned).then(|| walk.in_steps(16, &[place(table.data)]));
    let (kernel, step, walk) = match (copies, by_16.flatten()) {
        (true, Some(walk)) => ("get_rows_16", 16, walk),
        (true, None) => match walk.in_steps(4, &[place(table.data)]) {
            Some(walk) => ("get_rows_4", 4, walk),
            None => return Vec::new(),
        },
        (false, _) => ("get_rows_floats", 1, walk),
    };
    let params = GetRowsParams {
        axes: walk.axes(),
        planes: args.planes(0),
        table: table.data,
        ids: ids.data,
        out: out.data,
        fault: args.cell(0),
        row_stride,
        first: held.first,
        n: held.n,
        total: held.total,
        width: i32::try_from(sizes[4] / step).unwrap_or(i32::MAX),
        dtype: table.dtype,
        ids_dtype: ids.dtype,
        pad: 0,
    };
    vec![params.axes.launch(MODULE, kernel, &params)]
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![
        MODULE,
        ModuleKey::plain("quantise"),
        ModuleKey::plain("elementwise"),
    ]
}
