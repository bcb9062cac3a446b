//! Writing in place: rows by id, a tensor over another, keys and values into a paged cache.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::CacheWrite;
use ggrs_core::{DType, Unsupported};

use super::axes::{Axes, Divisor, Place, THREADS, Walk, bytes_of_float, strides};
use super::movement::{convert, variant};
use super::pages::Pages;
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request};
use crate::params::{FaultCell, View};

/// `SetRowsParams` of `cache.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SetRowsParams {
    rows: Axes,
    x: u64,
    ids: u64,
    dst: u64,
    fault: FaultCell,
    id_stride: i64,
    row_stride: i64,
    n_ids: Divisor,
    n_rows: i32,
    width: i32,
    dtype: i32,
    ids_dtype: i32,
    dst_dtype: i32,
    block_bytes: i32,
    pad: i32,
}

/// `CacheWriteParams` of `cache.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CacheWriteParams {
    axes: Axes,
    x: u64,
    cache: u64,
    pages: Pages,
    faults: [FaultCell; 3],
    cell_elems: i64,
    dtype: i32,
    cache_dtype: i32,
    block_bytes: i32,
    pad: i32,
}

const _: () = assert!(size_of::<SetRowsParams>() == 288);
const _: () = assert!(size_of::<CacheWriteParams>() == 336);

const MODULE: ModuleKey = ModuleKey::plain("cache");

/// Elements of the blocks that can be written.
const BLOCK: u32 = 32;

/// `dst = src`.
pub(crate) fn store(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (to, from) = (request.input(0).dtype, request.input(1).dtype);
    let (variant, reason) = variant(from, to);
    let name = format!("store/{variant}");
    Ok(Choice::new(name, reason, move |args| {
        let x = args.input(1);
        convert((from, &x, args.planes(1)), (to, &args.output(0)))
    }))
}

/// `dst[.., ids[i], :] = rows[.., i, :]`.
pub(crate) fn set_rows(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let (dst, from) = (request.input(0), request.input(1).dtype);
    let to = dst.dtype;
    let sizes = dst.shape.sizes();
    let bound = sizes.iter().rev().nth(1).copied().unwrap_or(0);
    let (variant, reason) = variant(from, to);
    let name = format!("set_rows/{variant}");
    let choice = Choice::new(name, reason, move |args| put_rows(to, bound, args));
    Ok(choice.fault(FaultKind::IndexOutOfRange { role: "ids", bound }))
}

fn put_rows(to: DType, bound: usize, args: &Args<'_>) -> Vec<Launch> {
    let (dst, x, ids) = (args.output(0), args.input(1), args.input(2));
    if x.elems() == 0 {
        return Vec::new();
    }
    // Ids have one axis fewer; rows are written by id.
    let mut of_ids = strides(&ids);
    of_ids.rotate_left(1);
    of_ids[4] = 0;
    let mut of_dst = strides(&dst);
    of_dst[3] = 0;
    let mut sizes = x.size.map(|n| u64::from(n.unsigned_abs()));
    sizes[4] = 1;
    let params = SetRowsParams {
        rows: Walk::new(&sizes, [strides(&x), of_ids, of_dst]).axes(),
        x: x.data,
        ids: ids.data,
        dst: dst.data,
        fault: args.cell(0),
        id_stride: ids.stride[4],
        row_stride: dst.stride[3],
        n_ids: Divisor::new(u64::from(x.size[3].unsigned_abs())),
        n_rows: i32::try_from(bound).unwrap_or(i32::MAX),
        width: x.size[4],
        dtype: x.dtype,
        ids_dtype: ids.dtype,
        dst_dtype: dst.dtype,
        block_bytes: to.block_bytes() as i32,
        pad: 0,
    };
    let kernel = if to.is_block() {
        "set_rows_blocks"
    } else if to.is_int() {
        "set_rows_integers"
    } else {
        "set_rows_floats"
    };
    let threads = x.width().next_multiple_of(64).min(THREADS);
    let blocks = params.rows.blocks(1);
    vec![Launch::new(MODULE, kernel, blocks, threads, &params)]
}

/// Rows of tokens to the cells of a paged cache.
pub(crate) fn cache_write(op: &CacheWrite, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let cache = request.input(0);
    let (to, from) = (cache.dtype, request.input(1).dtype);
    let block = op.block;
    let (variant, reason) = variant(from, to);
    let choice = Choice::new(format!("cache_write/{variant}"), reason, move |args| {
        write_cells(to, block, args)
    });
    let faults = Pages::faults(&cache, &request.input(4), block);
    Ok(faults.into_iter().fold(choice, Choice::fault))
}

fn write_cells(to: DType, block: usize, args: &Args<'_>) -> Vec<Launch> {
    let (cache, x) = (args.output(0), args.input(1));
    if x.elems() == 0 {
        return Vec::new();
    }
    // Axes of views are counted from the last; the first one of the rows is that of the tokens.
    let token_axis = 5usize.saturating_sub(args.output_sizes(0).len());
    let mut of_token = [0; 5];
    let mut of_cell = strides(&cache);
    if let (Some(token), Some(cell)) = (of_token.get_mut(token_axis), of_cell.get_mut(token_axis)) {
        (*token, *cell) = (1, 0);
    }
    let sizes = x.size.map(|n| u64::from(n.unsigned_abs()));
    let walk = Walk::new(&sizes, [strides(&x), of_token, of_cell]);
    let cell_elems = sizes.iter().skip(token_axis + 1).product::<u64>();
    let place = |tensor, view: &View| Place {
        tensor,
        data: view.data,
        bytes: bytes_of_float(view.dtype),
    };
    let places = [place(0, &x), place(2, &cache)];
    let (kernel, walk, per_block) = if to.is_block() {
        // Blocks are written by 32 lanes, however they are aligned.
        let Some(blocks) = in_blocks(&sizes, [strides(&x), of_token, of_cell]) else {
            return Vec::new();
        };
        ("cache_write_blocks", blocks, THREADS / BLOCK)
    } else {
        match walk.in_steps(4, &places).filter(|_| cell_elems % 4 == 0) {
            Some(steps) => ("cache_write_4", steps, THREADS),
            None => ("cache_write_1", walk, THREADS),
        }
    };
    let params = CacheWriteParams {
        axes: walk.axes(),
        x: x.data,
        cache: cache.data,
        pages: Pages::of(args, block),
        faults: [args.cell(0), args.cell(1), args.cell(2)],
        cell_elems: cell_elems as i64,
        dtype: x.dtype,
        cache_dtype: cache.dtype,
        block_bytes: to.block_bytes() as i32,
        pad: 0,
    };
    let blocks = params.axes.blocks(per_block);
    vec![Launch::new(MODULE, kernel, blocks, THREADS, &params)]
}

/// A walk over blocks of rows.
fn in_blocks(sizes: &[u64; 5], mut strides: [[i64; 5]; 3]) -> Option<Walk> {
    let mut sizes = *sizes;
    let last = sizes.last_mut()?;
    *last /= u64::from(BLOCK);
    for strides in &mut strides {
        *strides.last_mut()? *= i64::from(BLOCK);
    }
    Some(Walk::new(&sizes, strides))
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    let mut all = super::movement::modules();
    all.push(MODULE);
    all
}
