//! Order and choice: top-k, argsort, argmax, and the router of a mixture of experts. A NaN has no place in an order: it
//! is a fault.

use bytemuck::{Pod, Zeroable};
use ggrs_core::ops::{Argsort, Gating, RouteExperts, SortOrder, TopK};
use ggrs_core::{TensorDesc, Unsupported};

use crate::driver::DevicePtr;
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request};
use crate::params::{FaultCell, View};

/// `SelectParams` of `select.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SelectParams {
    x: View,
    positions: u64,
    values: u64,
    fault: FaultCell,
    from: u64,
    to: u64,
    k: i32,
    descending: i32,
    n: i32,
    length: i32,
    group: i32,
    is_last: i32,
}

/// `RouterParams` of `router.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct RouterParams {
    logits: View,
    weights: u64,
    ids: u64,
    fault: FaultCell,
    n_used: i32,
    is_sigmoid: i32,
    normalises: i32,
    scale: f32,
}

const _: () = assert!(size_of::<SelectParams>() == 144);
const _: () = assert!(size_of::<RouterParams>() == 120);

/// Rows up to here are sorted in one block's shared memory.
const MAX_ROW: u32 = 4096;

/// Keys that one block sorts of a wider row (`TILE`), and keys that one block joins of sorted runs (`CHUNK`).
const TILE: u32 = 2048;
const CHUNK: u32 = 1024;

/// The longest lists that are joined by their first keys alone, and the shared memory for them.
const MAX_LIST: u32 = 1024;
const LIST_BYTES: u32 = 48 << 10;

/// Bytes of a key: a float's rank and its position.
const KEY_BYTES: u32 = 8;

/// How rows are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Each row in a block's shared memory.
    Rows,
    /// The first keys of every tile, lists of so many; then the first of those.
    Lists { length: u32 },
    /// Tiles sorted, and then joined run by run.
    Runs,
}

impl Sort {
    fn of(width: u32, k: u32) -> Self {
        let length = k.next_power_of_two().max(2);
        if width <= MAX_ROW {
            Self::Rows
        } else if length <= MAX_LIST {
            Self::Lists { length }
        } else {
            Self::Runs
        }
    }

    const fn variant(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Lists { .. } => "lists",
            Self::Runs => "runs",
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Rows => "each row in one block",
            Self::Lists { .. } => "the first of every tile, then the first of those",
            Self::Runs => "tiles sorted, then joined",
        }
    }

    /// Keys per row that tiles leave behind.
    const fn keys(self, width: u32) -> u32 {
        let n_tiles = width.div_ceil(TILE);
        match self {
            Self::Rows => 0,
            Self::Lists { length } => n_tiles.saturating_mul(length),
            Self::Runs => n_tiles.saturating_mul(TILE),
        }
    }

    /// Working memory: keys that are read and keys that are written, in turns.
    fn scratch_bytes(self, x: &View) -> u64 {
        let keys = x.rows().saturating_mul(u64::from(self.keys(x.width())));
        keys.saturating_mul(2 * u64::from(KEY_BYTES))
    }

    fn launches(self, params: SelectParams, scratch: DevicePtr) -> Vec<Launch> {
        let (rows, width) = (params.x.rows() as u32, params.x.width());
        let n_tiles = width.div_ceil(TILE);
        let half = u64::from(rows) * u64::from(self.keys(width)) * u64::from(KEY_BYTES);
        let mut turns = Turns {
            params,
            here: scratch.0,
            there: scratch.plus(half).0,
        };
        match self {
            Self::Rows => {
                let n = width.next_power_of_two().max(2);
                let params = SelectParams {
                    n: n as i32,
                    ..params
                };
                let threads = (n / 2).clamp(64, 1024);
                let launch = launch("sort_rows", rows, threads, &params);
                vec![launch.shared(n * KEY_BYTES)]
            }
            Self::Lists { length } => {
                let mut all = vec![turns.tiles(rows, n_tiles, length)];
                let group = LIST_BYTES / KEY_BYTES / length;
                let mut n = n_tiles;
                loop {
                    let n_groups = n.div_ceil(group);
                    let params = turns.next(n, length, group, n_groups == 1);
                    let launch = launch("join_groups", rows * n_groups, 1024, &params);
                    all.push(launch.shared(group.min(n) * length * KEY_BYTES));
                    n = n_groups;
                    if n == 1 {
                        return all;
                    }
                }
            }
            Self::Runs => {
                let mut all = vec![turns.tiles(rows, n_tiles, TILE)];
                let n = n_tiles * TILE;
                let mut length = TILE;
                while length < n {
                    let is_last = length.saturating_mul(2) >= n;
                    let params = turns.next(n, length, 0, is_last);
                    let made = if is_last { params.k.unsigned_abs() } else { n };
                    let blocks = rows * made.div_ceil(CHUNK);
                    all.push(launch("merge_runs", blocks, 256, &params));
                    length = length.saturating_mul(2);
                }
                all
            }
        }
    }
}

/// Launches that read what the one before them wrote.
struct Turns {
    params: SelectParams,
    here: u64,
    there: u64,
}

impl Turns {
    fn next(&mut self, n: u32, length: u32, group: u32, is_last: bool) -> SelectParams {
        let params = SelectParams {
            from: self.here,
            to: self.there,
            n: n as i32,
            length: length as i32,
            group: group as i32,
            is_last: is_last.into(),
            ..self.params
        };
        std::mem::swap(&mut self.here, &mut self.there);
        params
    }

    fn tiles(&self, rows: u32, n_tiles: u32, length: u32) -> Launch {
        let params = SelectParams {
            to: self.here,
            n: n_tiles as i32,
            length: length as i32,
            ..self.params
        };
        launch("sort_tiles", rows * n_tiles, 1024, &params)
    }
}

fn launch(kernel: &'static str, blocks: u32, threads: u32, params: &SelectParams) -> Launch {
    Launch::new(ModuleKey::plain("select"), kernel, blocks, threads, params)
}

/// A view of a tensor that lies nowhere yet.
fn shape_of(desc: &TensorDesc) -> View {
    View::new(DevicePtr(0), desc)
}

impl SelectParams {
    fn new(args: &Args<'_>) -> Self {
        Self {
            x: args.input(0),
            fault: args.cell(0),
            descending: 1,
            ..Self::zeroed()
        }
    }
}

/// The k largest of each row.
pub(crate) fn top_k(op: &TopK, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let x = shape_of(&request.input(0));
    let k = u32::try_from(op.k).unwrap_or(u32::MAX);
    let sort = Sort::of(x.width(), k);
    let name = format!("top_k/{}", sort.variant());
    let choice = Choice::new(name, sort.reason(), move |args| {
        if args.output(0).elems() == 0 {
            return Vec::new();
        }
        let params = SelectParams {
            values: args.output(0).data,
            positions: args.output(1).data,
            k: k as i32,
            ..SelectParams::new(args)
        };
        sort.launches(params, args.scratch)
    });
    let scratch = choice.scratch(sort.scratch_bytes(&x));
    Ok(scratch.fault(FaultKind::NotANumber { role: "x" }))
}

/// The order that sorts each row.
pub(crate) fn argsort(op: &Argsort, request: &Request<'_>) -> Result<Choice, Unsupported> {
    let x = shape_of(&request.input(0));
    let sort = Sort::of(x.width(), x.width());
    let descending = i32::from(op.order == SortOrder::Descending);
    let name = format!("argsort/{}", sort.variant());
    let choice = Choice::new(name, sort.reason(), move |args| {
        if args.output(0).elems() == 0 {
            return Vec::new();
        }
        let params = SelectParams {
            positions: args.output(0).data,
            k: args.input(0).width() as i32,
            descending,
            ..SelectParams::new(args)
        };
        sort.launches(params, args.scratch)
    });
    let scratch = choice.scratch(sort.scratch_bytes(&x));
    Ok(scratch.fault(FaultKind::NotANumber { role: "x" }))
}

/// Threads of a block that looks for the largest; elements below which a part of a row is not worth a block.
const ARGMAX_THREADS: u32 = 256;
const MIN_PART: u32 = 1024;

/// The position of the largest of each row.
pub(crate) fn argmax(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let x = shape_of(&request.input(0));
    let fault = FaultKind::NotANumber { role: "x" };
    let warps = ARGMAX_THREADS / request.facts.warp.max(1);
    let (rows, width) = (x.rows() as u32, x.width());
    if width <= MIN_PART {
        let choice = Choice::new("argmax/rows", "one warp per row", move |args| {
            if args.output(0).elems() == 0 {
                return Vec::new();
            }
            let params = SelectParams {
                positions: args.output(0).data,
                ..SelectParams::new(args)
            };
            let blocks = rows.div_ceil(warps);
            vec![launch("argmax_rows", blocks, ARGMAX_THREADS, &params)]
        });
        return Ok(choice.fault(fault));
    }
    // Two blocks on each multiprocessor, if there are not enough rows.
    let wanted = (2 * request.facts.n_multiprocessors).div_ceil(rows.max(1));
    let length = width.div_ceil(wanted.max(1)).max(MIN_PART);
    let n_parts = width.div_ceil(length);
    let reason = if n_parts == 1 {
        "one block per row"
    } else {
        "parts of rows, then the largest of those"
    };
    let choice = Choice::new("argmax/parts", reason, move |args| {
        if args.output(0).elems() == 0 {
            return Vec::new();
        }
        let parts = SelectParams {
            positions: args.output(0).data,
            to: args.scratch.0,
            n: n_parts as i32,
            length: length as i32,
            is_last: (n_parts == 1).into(),
            ..SelectParams::new(args)
        };
        let mut all = vec![launch(
            "argmax_parts",
            rows * n_parts,
            ARGMAX_THREADS,
            &parts,
        )];
        if n_parts > 1 {
            let finish = SelectParams {
                from: args.scratch.0,
                ..parts
            };
            let blocks = rows.div_ceil(warps);
            all.push(launch("argmax_finish", blocks, ARGMAX_THREADS, &finish));
        }
        all
    });
    let keys = if n_parts == 1 { 0 } else { u64::from(n_parts) };
    let scratch = choice.scratch(x.rows() * keys * u64::from(KEY_BYTES));
    Ok(scratch.fault(fault))
}

/// Threads of a block of the router.
const ROUTER_THREADS: u32 = 128;

/// The most experts of which a warp has the logits in its registers.
fn most_held(warp: u32) -> usize {
    8 * warp as usize
}

impl RouterParams {
    /// The router over a step's memory.
    pub(crate) fn new(op: &RouteExperts, args: &Args<'_>) -> Self {
        Self {
            logits: args.input(0),
            weights: args.output(0).data,
            ids: args.output(1).data,
            fault: args.cell(0),
            n_used: i32::try_from(op.n_used).unwrap_or(i32::MAX),
            is_sigmoid: (op.gating == Gating::Sigmoid).into(),
            normalises: op.normalise.into(),
            scale: op.scale.0,
        }
    }

    /// Can every block that needs a token's experts choose them for itself? A warp of 32 holds so many.
    pub(crate) const fn is_made_by_each(n_experts: usize) -> bool {
        n_experts <= 256
    }
}

/// The router: probabilities, the largest, their weights.
pub(crate) fn route_experts(
    op: &RouteExperts,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    let n_experts = request.input(0).shape.last().bound();
    let warp = request.facts.warp.max(1);
    let held = "one warp per token, logits in registers";
    let streamed = "one warp per token, logits read for every choice";
    let (variant, kernel, reason) = match n_experts {
        n if n <= most_held(warp) / 2 => ("warp", "route_4", held),
        n if n <= most_held(warp) => ("warp", "route_8", held),
        _ => ("stream", "route_any", streamed),
    };
    let name = format!("route_experts/{variant}");
    let op = op.clone();
    let choice = Choice::new(name, reason, move |args| {
        let params = RouterParams::new(&op, args);
        let rows = params.logits.rows();
        if rows == 0 {
            return Vec::new();
        }
        let blocks = rows.div_ceil(u64::from(ROUTER_THREADS / warp)) as u32;
        let module = ModuleKey::plain("router");
        vec![Launch::new(module, kernel, blocks, ROUTER_THREADS, &params)]
    });
    let role = "router logits";
    Ok(choice.fault(FaultKind::NotANumber { role }))
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("router"), ModuleKey::plain("select")]
}
