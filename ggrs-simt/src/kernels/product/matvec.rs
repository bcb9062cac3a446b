//! Products with a few activations: each weight is read once and multiplied as it comes.

use bytemuck::{Pod, Zeroable};
use ggrs_core::error::{Refusal, RefusalReason};
use ggrs_core::{DType, TensorDesc};

use super::params::int;
use super::q8::{self, Q8};
use super::{Form, glu_number};
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request};
use crate::kernels::norm_q8::NormQ8;
use crate::params::{FaultCell, View, dtype_number};
use crate::planes::Planes;

const FILE: &str = "matvec";
const THREADS: u32 = 256;
const THREADS_BY_ID: u32 = 128;
/// At most, of a block that puts the one row of activations in 8 bits for itself.
const OF_ROW_THREADS: u32 = 768;
const GLU_OF_ROW_THREADS: u32 = 512;
/// Threads that a multiprocessor should have before they get more than one unit of a row each.
const THREADS_PER_MULTIPROCESSOR: u64 = 512;
/// Blocks along y.
const MAX_SHARES: u64 = 65535;

/// `Matvec` of `matvec.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Matvec {
    weights: [Planes; 2],
    row_pitch: [i64; 2],
    expert_pitch: [i64; 2],
    x: Q8,
    row: u64,
    out: u64,
    ids: u64,
    id_pitch: [i64; 2],
    fault: FaultCell,
    m: i32,
    n: i32,
    lane_bits: i32,
    glu: i32,
    n_used: i32,
    x_per_token: i32,
    first: i32,
    held: i32,
    total: i32,
    pad: i32,
}

const _: () = assert!(size_of::<Matvec>() == 248);

/// Elements of a row that a lane reads at once: 16 or 32 bytes of quants.
pub(crate) const fn unit_elems(dtype: DType) -> u64 {
    match dtype {
        DType::F32 => 4,
        DType::F16 | DType::BF16 => 8,
        DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K => 64,
        _ => 32,
    }
}

/// The fewest lanes that have a row together: those of a block.
pub(crate) fn min_lanes(dtype: DType) -> u64 {
    (dtype.block_elems() as u64 / unit_elems(dtype)).max(4)
}

/// `rows_together` of `matvec.cuh`: rows that the same threads have at once of several activations.
pub(crate) const fn rows_together(dtype: DType) -> u32 {
    if unit_elems(dtype) > 32 { 1 } else { 2 }
}

/// Units of all rows for which each multiprocessor has as many threads as it should.
fn units_at_once(n_multiprocessors: u32) -> u64 {
    u64::from(n_multiprocessors) * THREADS_PER_MULTIPROCESSOR
}

/// Threads of a block that have a row of `k` elements together, when all rows are `n_units` units: as few as still give
/// every multiprocessor enough to do, because fewer read the activations less often.
pub(crate) fn lanes(
    dtype: DType,
    k: u64,
    n_units: u64,
    n_multiprocessors: u32,
    threads_of_block: u32,
) -> u32 {
    let units = k / unit_elems(dtype);
    let at_once = units_at_once(n_multiprocessors).max(1);
    let each = (n_units.saturating_add(at_once / 2) / at_once).clamp(1, 8);
    let lanes = (units / each).max(1).next_power_of_two();
    lanes.clamp(min_lanes(dtype), u64::from(threads_of_block)) as u32
}

/// A float operand's scalars as blocks of one element; a block format's planes.
pub(crate) fn planes(args: &Args<'_>, i: usize, view: &View) -> Planes {
    let mut planes = args.planes(i);
    if let [first, ..] = &mut planes.start
        && *first == 0
    {
        *first = view.data;
    }
    planes
}

/// Are rows where loads of 16 bytes can begin?
pub(crate) fn is_aligned(desc: &TensorDesc, bytes: usize) -> bool {
    let per_load = 16 / bytes;
    let strides = desc.layout.strides();
    let outer = strides.split_last().map_or(&[][..], |(_, outer)| outer);
    desc.layout.offset().is_multiple_of(per_load)
        && outer.iter().all(|s| s.is_multiple_of(per_load))
}

/// Why this product is not for the kernel.
fn refusal(form: &Form, request: &Request<'_>) -> Option<RefusalReason> {
    let n = form.n_weights();
    let first = request.input(0);
    let dtype = first.dtype;
    if dtype.is_block() && request.is_exact() {
        return Some(RefusalReason::Precision { asked: "exact" });
    }
    for i in 0..n {
        let weights = request.input(i);
        if weights.dtype != dtype {
            let role = "up weights";
            return Some(RefusalReason::DType {
                role,
                dtype: weights.dtype,
            });
        }
        if dtype.is_block() && !request.is_packed(i) {
            return Some(RefusalReason::WeightForm { needs: "in planes" });
        }
        if !dtype.is_block() && !is_aligned(&weights, dtype.block_bytes()) {
            return Some(RefusalReason::Strided { role: "weights" });
        }
        let outer: usize = weights.shape.leading(2).iter().map(|d| d.bound()).product();
        if form.experts.is_none() && outer != 1 {
            return Some(RefusalReason::Size {
                what: "matrices of weights",
                got: outer,
                max: 1,
            });
        }
    }
    let x = request.input(n);
    let k = x.shape.last().bound();
    let unit = unit_elems(dtype) as usize;
    if !k.is_multiple_of(unit) {
        return Some(RefusalReason::Multiple {
            what: "inner size k",
            got: k,
            of: unit,
        });
    }
    if !dtype.is_block() {
        if x.dtype != DType::F32 {
            return Some(RefusalReason::DType {
                role: "x",
                dtype: x.dtype,
            });
        }
        if !x.is_contiguous() || !is_aligned(&x, 4) {
            return Some(RefusalReason::Strided { role: "x" });
        }
    }
    let out = request.output(0);
    if !out.is_contiguous() {
        return Some(RefusalReason::Strided { role: "result" });
    }
    // Without a unit to read a thread would not wait for the launch before it.
    if k == 0 || out.shape.last().bound() == 0 {
        let what = "weights";
        return Some(RefusalReason::Empty { what });
    }
    let rows: usize = out.shape.leading(1).iter().map(|d| d.bound()).product();
    let max = MAX_SHARES as usize;
    (rows > max).then_some(RefusalReason::Size {
        what: "activations",
        got: rows,
        max,
    })
}

/// The kernel, if it takes the product.
pub(crate) fn product(form: Form, request: &Request<'_>) -> Result<Choice, Refusal> {
    if let Some(reason) = refusal(&form, request) {
        return Err(Refusal {
            kernel: "matvec",
            reason,
        });
    }
    let dtype = request.input(0).dtype;
    let n_multiprocessors = request.facts.n_multiprocessors;
    let x = request.input(form.n_weights());
    let (scratch, reason) = if dtype.is_block() {
        let reason = "each weight read once, times activations of 8 bits";
        (Q8::bytes_of(&x), reason)
    } else {
        (0, "each weight read once, times F32 activations")
    };
    let name = format!("{}/matvec/{}", form.stem(), dtype.name().to_lowercase());
    let choice = Choice::new(name, reason, move |args| {
        launches(&form, dtype, n_multiprocessors, args)
    })
    .scratch(scratch);
    Ok(match form.experts {
        Some(experts) => choice.fault(FaultKind::IndexOutOfRange {
            role: "expert ids",
            bound: experts.total,
        }),
        None => choice,
    })
}

fn launches(form: &Form, dtype: DType, n_multiprocessors: u32, args: &Args<'_>) -> Vec<Launch> {
    let n_weights = form.n_weights();
    let (x, out, ids) = (
        args.input(n_weights),
        args.output(0),
        args.input(n_weights + 1),
    );
    if out.elems() == 0 {
        return Vec::new();
    }
    let views = [args.input(0), args.input(n_weights - 1)];
    let per_block = dtype.block_elems() as i64;
    let [first, held, total] = form.experts.map_or([0; 3], |e| [e.first, e.held, e.total]);
    let q8 = if dtype.is_block() {
        Q8::at(args.scratch, x.rows(), x.width())
    } else {
        Q8 {
            quants: x.data,
            scales: 0,
            k: x.width().cast_signed(),
            pad: 0,
        }
    };
    let by_id = form.experts.is_some();
    let n_shares = if by_id { out.rows() } else { 1 };
    let n_rows = u64::from(out.width()) * n_shares;
    let threads = if by_id { THREADS_BY_ID } else { THREADS };
    let k = u64::from(x.width());
    let n_units = n_rows.saturating_mul(k / unit_elems(dtype));
    let lanes = lanes(dtype, k, n_units, n_multiprocessors, threads);
    let [.., tokens, n_used, _] = out.size;
    let [.., id_token, id_choice] = ids.stride;
    let [.., x_per_token, _] = x.size;
    let mut p = Matvec {
        weights: [
            planes(args, 0, &views[0]),
            planes(args, n_weights - 1, &views[1]),
        ],
        row_pitch: views.map(|v| v.stride[3] / per_block),
        expert_pitch: views.map(|v| v.stride[2] / per_block),
        x: q8,
        row: 0,
        out: out.data,
        ids: ids.data,
        id_pitch: [id_token, id_choice],
        fault: args.cell(0),
        m: out.width().cast_signed(),
        n: if by_id {
            tokens
        } else {
            int(x.rows() as usize)
        },
        lane_bits: lanes.trailing_zeros().cast_signed(),
        glu: form.glu.map_or(0, glu_number),
        n_used,
        x_per_token,
        first: int(first),
        held: int(held),
        total: int(total),
        pad: 0,
    };
    let module = ModuleKey::plain(FILE).with("FORMAT", dtype.name());
    let row = NormQ8::plain(x.data, x.width());
    let is_float = x.dtype == dtype_number(DType::F32) && x.data.is_multiple_of(16);
    if dtype.is_block() && !by_id && out.rows() == 1 && is_float {
        let (kernel, most) = match form.glu {
            None => ("matvec_of_row", OF_ROW_THREADS),
            Some(_) => ("matvec_glu_of_row", GLU_OF_ROW_THREADS),
        };
        let shape = (n_rows.saturating_mul(u64::from(lanes)), lanes, most);
        let blocks = |threads: u32| out.width().div_ceil(threads / lanes);
        if let Some(threads) = row.threads_of_each(shape, n_multiprocessors, blocks) {
            p.row = x.data;
            let launch = Launch::new(module, kernel, blocks(threads), threads, &p);
            return vec![launch.shared(row.own_bytes())];
        }
    }
    let variant = Variant::new(form, dtype, out.rows());
    let blocks = out.width().div_ceil(threads / lanes * variant.rows);
    let product = Launch::new(module, variant.kernel, blocks, threads, &p).deep(variant.shares, 1);
    if dtype.is_block() {
        vec![q8::quantise(&x, q8), product]
    } else {
        vec![product]
    }
}

/// A kernel for a number of activations.
struct Variant {
    kernel: &'static str,
    /// Rows of results that `lanes` threads write.
    rows: u32,
    /// Blocks along y.
    shares: u32,
}

impl Variant {
    fn new(form: &Form, dtype: DType, rows_of_result: u64) -> Self {
        let together = rows_together(dtype);
        let all = rows_of_result.min(MAX_SHARES) as u32;
        let (kernel, rows, shares) = match (form.experts.is_some(), form.glu.is_some(), all) {
            (true, false, _) => ("matvec_by_id", 1, all),
            (true, true, _) => ("matvec_by_id_glu", 1, all),
            (false, false, 1) => ("matvec_1", 1, 1),
            (false, false, 2) => ("matvec_2", together, 1),
            (false, false, 3 | 4) => ("matvec_4", together, 1),
            (false, false, _) if dtype.is_block() => ("matvec_4", together, all.div_ceil(4)),
            (false, false, _) => ("matvec_8", together, all.div_ceil(8)),
            (false, true, 1) => ("matvec_glu_1", 1, 1),
            (false, true, 2) => ("matvec_glu_2", 1, 1),
            (false, true, _) => ("matvec_glu_4", 1, all.div_ceil(4)),
        };
        Self {
            kernel,
            rows,
            shares,
        }
    }
}

/// A module for each dtype of weights.
pub(crate) fn modules() -> Vec<ModuleKey> {
    let dtypes = DType::ALL.into_iter().filter(|d| !d.is_int());
    dtypes
        .map(|dtype| ModuleKey::plain(FILE).with("FORMAT", dtype.name()))
        .collect()
}
