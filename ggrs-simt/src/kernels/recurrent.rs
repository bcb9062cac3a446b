//! Recurrent mixers: causal convolution and the gated delta rule. F32 throughout.

use bytemuck::{Pod, Zeroable};
use ggrs_core::Unsupported;
use ggrs_core::error::RefusalReason;
use ggrs_core::ops::GatedDeltaNet;

use crate::kernel::{Choice, Launch, ModuleKey, Request};
use crate::params::View;

/// `ConvParams` of `ssm_conv.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ConvParams {
    x: View,
    weights: u64,
    out: u64,
    n_taps: i32,
    n_tokens: i32,
}

/// `DeltaParams` of `gated_delta_net.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct DeltaParams {
    q: View,
    k: View,
    v: View,
    g: View,
    beta: View,
    state: u64,
    out: u64,
    states: u64,
    n_snapshots: i32,
    scale: f32,
}

const _: () = assert!(size_of::<ConvParams>() == 96);
const _: () = assert!(size_of::<DeltaParams>() == 392);

/// Threads of a convolution's blocks, channels and tokens of a tile, taps that a tile can have.
const CONV_THREADS: u32 = 256;
const CHANNELS: u32 = 32;
const TOKENS: u32 = 64;
const MAX_TAPS: u32 = 64;

/// Causal depthwise convolution over the joined state and tokens.
pub(crate) fn ssm_conv(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let n_taps = request.input(1).shape.last().bound();
    let n_columns = request.input(0).shape.last().bound();
    let n_tokens = (n_columns + 1).saturating_sub(n_taps);
    let module = || ModuleKey::plain("ssm_conv");
    if n_tokens < 8 || n_taps > MAX_TAPS as usize {
        let reason = "one thread per result, in F32";
        return Ok(Choice::new("ssm_conv/each", reason, move |args| {
            let Some((params, _)) = conv_params(&args.input(0), &args.input(1), &args.output(0))
            else {
                return Vec::new();
            };
            let elems = args.output(0).elems();
            let blocks = elems.div_ceil(u64::from(CONV_THREADS)).min(1 << 20) as u32;
            vec![Launch::new(
                module(),
                "conv_each",
                blocks,
                CONV_THREADS,
                &params,
            )]
        }));
    }
    let reason = "tiles of channels by tokens, in F32";
    Ok(Choice::new("ssm_conv/tiles", reason, move |args| {
        let Some((params, [sequences, tokens, channels])) =
            conv_params(&args.input(0), &args.input(1), &args.output(0))
        else {
            return Vec::new();
        };
        let blocks = sequences * tokens.div_ceil(TOKENS) * channels.div_ceil(CHANNELS);
        let taps = params.n_taps.unsigned_abs();
        let pitches = ((TOKENS - 1 + taps) | 1) + (taps | 1);
        let launch = Launch::new(module(), "conv_tiles", blocks, CONV_THREADS, &params);
        vec![launch.shared(4 * CHANNELS * pitches)]
    }))
}

/// Parameters, and sequences, tokens and channels; `None` if there are no results.
fn conv_params(x: &View, weights: &View, out: &View) -> Option<(ConvParams, [u32; 3])> {
    let [.., sequences, n_tokens, channels] = out.size;
    let [.., n_taps] = weights.size;
    let params = ConvParams {
        x: *x,
        weights: weights.data,
        out: out.data,
        n_taps,
        n_tokens,
    };
    let sizes = [sequences, n_tokens, channels].map(i32::unsigned_abs);
    (out.elems() > 0).then_some((params, sizes))
}

/// Rows and threads of a block; up to which widths rows stay in registers.
const DELTA_ROWS: u32 = 32;
const DELTA_THREADS: u32 = 256;
const DELTA_WIDTHS: [(u32, &str, &str); 4] = [
    (32, "delta_32", "delta_32_wide"),
    (64, "delta_64", "delta_64_wide"),
    (128, "delta_128", "delta_128_wide"),
    (256, "delta_256", "delta_256_wide"),
];

/// Threads of a block whose rows are in shared memory, and the memory that it has at most.
const ANY_THREADS: u32 = 128;
const ANY_SHARED: usize = 48 << 10;

/// The gated delta rule over all tokens, with snapshots of the state.
pub(crate) fn gated_delta_net(
    op: &GatedDeltaNet,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    let width = request.input(2).shape.last().bound();
    let n_snapshots = i32::try_from(op.snapshots).unwrap_or(i32::MAX);
    let is_wide = request.input(3).shape.last().bound() > 1;
    let params = move |args: &crate::kernel::Args<'_>| DeltaParams {
        q: args.input(0),
        k: args.input(1),
        v: args.input(2),
        g: args.input(3),
        beta: args.input(4),
        state: args.input(5).data,
        out: args.output(0).data,
        states: args.output(1).data,
        n_snapshots,
        scale: (1.0 / (width as f64).sqrt()) as f32,
    };
    let module = || ModuleKey::plain("gated_delta_net");
    let in_registers = DELTA_WIDTHS
        .iter()
        .find(|(most, ..)| width <= *most as usize);
    if let Some(&(_, narrow, wide)) = in_registers {
        let kernel = if is_wide { wide } else { narrow };
        let reason = "rows of the states in registers through all tokens";
        return Ok(Choice::new(
            "gated_delta_net/registers",
            reason,
            move |args| {
                let params = params(args);
                if params.v.elems() == 0 {
                    return Vec::new();
                }
                let [_, batch, _, heads, width] = params.v.size.map(i32::unsigned_abs);
                let blocks = batch * heads * width.div_ceil(DELTA_ROWS);
                vec![Launch::new(
                    module(),
                    kernel,
                    blocks,
                    DELTA_THREADS,
                    &params,
                )]
            },
        ));
    }
    let warp = request.facts.warp.max(1);
    let warps = ANY_THREADS / warp;
    let max = ANY_SHARED / size_of::<f32>() / warps.max(1) as usize;
    if width > max {
        let what = "head width";
        let got = width;
        return Err(Unsupported::one(
            "shared",
            RefusalReason::Size { what, got, max },
        ));
    }
    let reason = "rows of the states in shared memory through all tokens";
    Ok(Choice::new("gated_delta_net/shared", reason, move |args| {
        let params = params(args);
        if params.v.elems() == 0 {
            return Vec::new();
        }
        let [_, batch, _, heads, width] = params.v.size.map(i32::unsigned_abs);
        let blocks = (batch * heads * width).div_ceil(warps);
        let launch = Launch::new(module(), "delta_any", blocks, ANY_THREADS, &params);
        vec![launch.shared(4 * warps * width)]
    }))
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![
        ModuleKey::plain("gated_delta_net"),
        ModuleKey::plain("ssm_conv"),
    ]
}
