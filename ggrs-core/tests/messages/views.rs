//! What views, norms, attention, caches and the rest refuse.

use ggrs_core::ops::{Attention, GluInput, GluKind, Rope, RopeMode, UnaryKind, Visibility, Yarn};
use ggrs_core::{DType, GraphBuilder, Real};

use crate::{F, input, pages, refuses};

#[test]
fn reshape_to_other_count() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            b.reshape(h, [5, 5])
        },
        "reshape \"reshape\" (x \"h\" F32 [6, 4]): cannot reshape [6, 4] to [5, 5]: the number of elements differs",
    );
}

#[test]
fn reshape_of_a_transposed_view() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            let t = b.permute(h, &[1, 0])?;
            b.reshape(t, [24])
        },
        "reshape \"reshape\" (x \"permute\" F32 [4, 6] strides [1, 4]): cannot view [4, 6] (strides [1, 4]) as [24] without moving data; call contiguous() first",
    );
}

#[test]
fn permute_that_is_none() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            b.permute(h, &[0, 0])
        },
        "permute \"permute\" (x \"h\" F32 [6, 4]): [0, 0] is not a permutation of the 2 axes",
    );
}

#[test]
fn slice_outside() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            b.slice(h, 0, 4, 3)
        },
        "slice \"slice\" (x \"h\" F32 [6, 4]): slice 4..7 is outside axis 0 of size 6",
    );
}

#[test]
fn slice_of_no_axis() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            b.slice(h, 2, 0, 1)
        },
        "slice \"slice\" (x \"h\" F32 [6, 4]): axis 2 does not exist: x has shape [6, 4]",
    );
}

#[test]
fn slice_through_a_block() {
    refuses(
        |b| {
            let w = b.weight("w", DType::Q8_0, [4, 64])?;
            b.slice(w, 1, 16, 32)
        },
        "slice \"slice\" (x \"w\" Q8_0 [4, 64]): x is Q8_0: a view may not cut or scatter its blocks of 32 elements along the last axis",
    );
}

#[test]
fn slice_of_a_symbol() {
    refuses(
        |b| {
            let t = b.symbol("tokens", 512)?;
            let h = b.input(
                "h",
                F,
                ggrs_core::Shape::new([ggrs_core::Dim::Sym(t), 8.into()]),
            )?;
            b.slice(h, 0, 0, 1)
        },
        "slice \"slice\" (x \"h\" F32 [tokens<=512, 8]): axis 0 of x is symbolic (tokens<=512): its size is known only when the graph is bound; slice another axis or use get_rows",
    );
}

#[test]
fn broadcast_to_fewer() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            b.broadcast(h, [3, 4])
        },
        "broadcast \"broadcast\" (x \"h\" F32 [6, 4]): shapes [6, 4] and [3, 4] do not broadcast: each axis must be equal or 1 (aligned at the last axis)",
    );
}

#[test]
fn norm_of_a_transposed_view() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 4]);
            let t = b.permute(h, &[1, 0])?;
            b.rms_norm(t, None, 1e-6)
        },
        "rms_norm \"rms_norm\" (x \"permute\" F32 [4, 6] strides [1, 4]): the last axis of x must be contiguous, got strides [1, 4] for shape [4, 6]; call contiguous() first",
    );
}

#[test]
fn norm_weight_of_another_width() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 64]);
            let w = b.weight("blk.3.attn_norm.weight", F, [128])?;
            b.rms_norm(h, Some(w), 1e-6)
        },
        "rms_norm \"rms_norm\" (x \"h\" F32 [6, 64], weight \"blk.3.attn_norm.weight\" F32 [128]): width differs: weight has 128, x has 64",
    );
}

#[test]
fn norm_weight_in_half_precision() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 64]);
            let w = b.weight("norm", DType::F16, [64])?;
            b.rms_norm(h, Some(w), 1e-6)
        },
        "rms_norm \"rms_norm\" (x \"h\" F32 [6, 64], weight \"norm\" F16 [64]): weight must be F32, got F16; insert a cast",
    );
}

#[test]
fn norm_with_negative_eps() {
    refuses(
        |b| {
            let h = input(b, "h", &[6, 64]);
            b.rms_norm(h, None, -1.0)
        },
        "rms_norm \"rms_norm\" (x \"h\" F32 [6, 64]): eps = -1 is not allowed: it must be finite and not below 0",
    );
}

#[test]
fn clamp_of_crossed_limits() {
    refuses(
        |b| {
            let h = input(b, "h", &[6]);
            b.clamp(h, 2.0, 1.0)
        },
        "clamp \"clamp\" (x \"h\" F32 [6]): min = 2 is not allowed: it must be a number not above max",
    );
}

#[test]
fn scale_by_nan() {
    refuses(
        |b| {
            let h = input(b, "h", &[6]);
            b.scale(h, f32::NAN, 0.0)
        },
        "scale \"scale\" (x \"h\" F32 [6]): scale = NaN is not allowed: it must be finite",
    );
}

#[test]
fn unary_of_blocks() {
    refuses(
        |b| {
            let h = b.input("h", DType::Q8_0, [32])?;
            b.unary(UnaryKind::Silu, h)
        },
        "silu \"silu\" (x \"h\" Q8_0 [32]): x must be F32, F16 or BF16, got Q8_0; insert a cast",
    );
}

#[test]
fn glu_of_an_odd_width() {
    refuses(
        |b| {
            let h = input(b, "h", &[2, 7]);
            b.glu_fused(GluKind::Swiglu, GluInput::GateUp, h)
        },
        "swiglu \"swiglu\" (gate and up \"h\" F32 [2, 7]): width of gate and up (7) must be a multiple of two halves (2)",
    );
}

#[test]
fn softmax_mask_of_another_width() {
    refuses(
        |b| {
            let s = input(b, "s", &[2, 8]);
            let m = input(b, "m", &[2, 7]);
            b.softmax(s, 1.0, Some(m), None)
        },
        "softmax \"softmax\" (x \"s\" F32 [2, 8], mask \"m\" F32 [2, 7]): width differs: mask has 7, x has 8",
    );
}

#[test]
fn rope_wider_than_the_head() {
    refuses(
        |b| {
            let q = input(b, "q", &[3, 2, 64]);
            let pos = b.input("pos", DType::I32, [3])?;
            b.rope(
                Rope {
                    mode: RopeMode::Neox,
                    n_rot: 128,
                    base: Real(1e6),
                    yarn: Yarn::default(),
                    factors: false,
                },
                q,
                pos,
                None,
            )
        },
        "rope \"rope\" (x \"q\" F32 [3, 2, 64], positions \"pos\" I32 [3]): n_rot is 128, at most 64 is possible",
    );
}

#[test]
fn rope_positions_of_other_tokens() {
    refuses(
        |b| {
            let q = input(b, "q", &[3, 2, 64]);
            let pos = b.input("pos", DType::I32, [4])?;
            b.rope(
                Rope {
                    mode: RopeMode::Neox,
                    n_rot: 64,
                    base: Real(1e6),
                    yarn: Yarn::default(),
                    factors: false,
                },
                q,
                pos,
                None,
            )
        },
        "rope \"rope\" (x \"q\" F32 [3, 2, 64], positions \"pos\" I32 [4]): number of tokens differs: positions has 4, x has 3",
    );
}

#[test]
fn attention_heads_that_do_not_group() {
    refuses(
        |b| {
            let q = input(b, "q", &[1, 2, 6, 64]);
            let k = input(b, "k", &[1, 9, 4, 64]);
            let v = input(b, "v", &[1, 9, 4, 64]);
            b.attention(
                Attention {
                    scale: Real(1.0),
                    softcap: None,
                    visibility: Visibility::Full,
                    sinks: false,
                },
                q,
                k,
                v,
                &[],
            )
        },
        "attention \"attention\" (queries \"q\" F32 [1, 2, 6, 64], keys \"k\" F32 [1, 9, 4, 64], values \"v\" F32 [1, 9, 4, 64]): number of query heads (6) must be a multiple of that of key heads (4)",
    );
}

#[test]
fn attention_head_too_wide() {
    refuses(
        |b| {
            let q = input(b, "q", &[1, 2, 4, 576]);
            let k = input(b, "k", &[1, 9, 4, 576]);
            let v = input(b, "v", &[1, 9, 4, 512]);
            b.attention(
                Attention {
                    scale: Real(1.0),
                    softcap: None,
                    visibility: Visibility::Full,
                    sinks: false,
                },
                q,
                k,
                v,
                &[],
            )
        },
        "attention \"attention\" (queries \"q\" F32 [1, 2, 4, 576], keys \"k\" F32 [1, 9, 4, 576], values \"v\" F32 [1, 9, 4, 512]): key width is 576, at most 512 is possible",
    );
}

#[test]
fn attention_over_an_unreadable_cache() {
    refuses(
        |b| {
            let q = input(b, "q", &[1, 2, 4, 64]);
            let k = b.input("k", DType::Q5_0, [1, 9, 4, 64])?;
            let v = input(b, "v", &[1, 9, 4, 64]);
            b.attention(
                Attention {
                    scale: Real(1.0),
                    softcap: None,
                    visibility: Visibility::Full,
                    sinks: false,
                },
                q,
                k,
                v,
                &[],
            )
        },
        "attention \"attention\" (queries \"q\" F32 [1, 2, 4, 64], keys \"k\" Q5_0 [1, 9, 4, 64], values \"v\" F32 [1, 9, 4, 64]): keys must be F32, F16, BF16, Q8_0 or Q4_0, got Q5_0; insert a cast",
    );
}

#[test]
fn attention_without_its_mask() {
    refuses(
        |b| {
            let q = input(b, "q", &[1, 2, 4, 64]);
            let k = input(b, "k", &[1, 9, 4, 64]);
            let v = input(b, "v", &[1, 9, 4, 64]);
            let a = Attention {
                visibility: Visibility::Mask,
                ..Attention {
                    scale: Real(1.0),
                    softcap: None,
                    visibility: Visibility::Full,
                    sinks: false,
                }
            };
            b.attention(a, q, k, v, &[])
        },
        "attention \"attention\" (queries \"q\" F32 [1, 2, 4, 64], keys \"k\" F32 [1, 9, 4, 64], values \"v\" F32 [1, 9, 4, 64]): takes 4 operands, got 3",
    );
}

#[test]
fn cache_write_to_a_weight() {
    refuses(
        |b| {
            let w = b.weight("w", F, [64, 2, 8])?;
            let rows = input(b, "rows", &[3, 2, 8]);
            let pages = pages(b)?;
            b.cache_write(w, rows, pages, 64)
        },
        "cache_write \"cache_write\" (cache \"w\" F32 [64, 2, 8], rows \"rows\" F32 [3, 2, 8], positions \"positions\" I32 [3], slots \"slots\" I32 [3], page table \"table\" I32 [1, 1]): cache cannot be written: it is a weight; use a state or the result of an op",
    );
}

#[test]
fn cache_write_without_blocks() {
    refuses(
        |b| {
            let kv = b.state("kv.0.k", DType::F16, [64, 2, 8])?;
            let rows = input(b, "rows", &[3, 2, 8]);
            let pages = pages(b)?;
            b.cache_write(kv, rows, pages, 0)
        },
        "cache_write \"cache_write\" (cache \"kv.0.k\" F16 [64, 2, 8], rows \"rows\" F32 [3, 2, 8], positions \"positions\" I32 [3], slots \"slots\" I32 [3], page table \"table\" I32 [1, 1]): block = 0 is not allowed: it must be at least 1",
    );
}

#[test]
fn cache_row_of_another_size() {
    refuses(
        |b| {
            let kv = b.state("kv.0.k", DType::F16, [64, 2, 8])?;
            let rows = input(b, "rows", &[3, 2, 9]);
            let pages = pages(b)?;
            b.cache_write(kv, rows, pages, 64)
        },
        "cache_write \"cache_write\" (cache \"kv.0.k\" F16 [64, 2, 8], rows \"rows\" F32 [3, 2, 9], positions \"positions\" I32 [3], slots \"slots\" I32 [3], page table \"table\" I32 [1, 1]): row size differs: rows has 9, cache has 8",
    );
}

#[test]
fn store_over_itself() {
    refuses(
        |b| {
            let s = b.state("s", F, [2, 8])?;
            let first = b.slice(s, 0, 0, 1)?;
            let second = b.slice(s, 0, 1, 1)?;
            b.store(first, second)
        },
        "store \"store\" (dst \"slice\" F32 [1, 8], src \"slice_2\" F32 [1, 8] offset 8): dst cannot be written: it is also read by the same op; use a state or the result of an op",
    );
}

#[test]
fn stale_state() {
    refuses(
        |b| {
            let s = b.state("kv", F, [4, 8])?;
            let rows = input(b, "rows", &[1, 8]);
            let ids = b.input("ids", DType::I32, [1])?;
            b.set_rows(s, rows, ids)?;
            b.scale(s, 2.0, 0.0)
        },
        "scale: operand \"kv\" was overwritten by \"set_rows\"; use the result of \"set_rows\" instead",
    );
}

#[test]
fn concat_of_other_widths() {
    refuses(
        |b| {
            let a = input(b, "a", &[2, 3]);
            let c = input(b, "c", &[4, 5]);
            b.concat(&[a, c], 0)
        },
        "concat \"concat\" (first \"a\" F32 [2, 3], next \"c\" F32 [4, 5]): an axis that is not joined differs: next has 5, first has 3",
    );
}

#[test]
fn cast_to_a_format_without_quantiser() {
    refuses(
        |b| {
            let a = input(b, "a", &[2, 256]);
            b.cast(a, DType::Q4_K)
        },
        "cast \"cast\" (x \"a\" F32 [2, 256]): Q4_K cannot be written: it has no quantiser; written can be F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 or IQ4_NL",
    );
}

#[test]
fn constant_of_the_wrong_length() {
    refuses(
        |b| b.constant("factors", F, [4], vec![0u8; 12]),
        "constant \"factors\": the constant has 12 bytes, F32 [4] needs 16",
    );
}

#[test]
fn duplicate_weight() {
    refuses(
        |b| {
            b.weight("output.weight", F, [4])?;
            b.weight("output.weight", F, [4])
        },
        "the name \"output.weight\" is taken: inputs, weights, states and outputs need names of their own",
    );
}

#[test]
fn foreign_value() {
    refuses(
        |b| {
            let mut other = GraphBuilder::new();
            let theirs = input(&mut other, "h", &[3]);
            b.scale(theirs, 1.0, 0.0)
        },
        "scale: operand 0 belongs to another graph",
    );
}

#[test]
fn symbol_without_room() {
    refuses(
        |b| b.symbol("tokens", 1),
        "symbol \"tokens\" must allow sizes from 1 to at least 2, got a maximum of 1",
    );
}

#[test]
fn reduce_scatter_that_does_not_divide() {
    refuses(
        |b| {
            let h = input(b, "h", &[3, 10]);
            b.collective(
                ggrs_core::ops::CollectiveKind::ReduceScatter { axis: 1 },
                4,
                h,
            )
        },
        "reduce_scatter \"reduce_scatter\" (x \"h\" F32 [3, 10]): size of the axis (10) must be a multiple of the number of members (4)",
    );
}
