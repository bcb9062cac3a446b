//! What ops that compute refuse.

use ggrs_core::ops::{Gating, RouteExperts, SortOrder};
use ggrs_core::{DType, Real};

use crate::{F, input, refuses};

#[test]
fn add_of_shapes_that_do_not_broadcast() {
    refuses(
        |b| {
            let a = input(b, "a", &[3, 4]);
            let c = input(b, "c", &[3, 5]);
            b.add(a, c)
        },
        "add \"add\" (lhs \"a\" F32 [3, 4], rhs \"c\" F32 [3, 5]): shapes [3, 4] and [3, 5] do not broadcast: each axis must be equal or 1 (aligned at the last axis)",
    );
}

#[test]
fn add_of_integers() {
    refuses(
        |b| {
            let a = b.input("a", DType::I32, [3])?;
            let c = input(b, "c", &[3]);
            b.add(a, c)
        },
        "add \"add\" (lhs \"a\" I32 [3], rhs \"c\" F32 [3]): lhs must be F32, F16 or BF16, got I32",
    );
}

#[test]
fn matmul_inner_sizes() {
    refuses(
        |b| {
            let w = b.weight("blk.0.attn_q.weight", DType::Q4_K, [512, 256])?;
            let h = input(b, "h", &[7, 128]);
            b.matmul(w, h)
        },
        "matmul \"matmul\" (weights \"blk.0.attn_q.weight\" Q4_K [512, 256], x \"h\" F32 [7, 128]): inner size k differs: x has 128, weights has 256",
    );
}

#[test]
fn matmul_of_vector() {
    refuses(
        |b| {
            let w = b.weight("w", F, [8, 4])?;
            let v = input(b, "v", &[4]);
            b.matmul(w, v)
        },
        "matmul \"matmul\" (weights \"w\" F32 [8, 4], x \"v\" F32 [4]): x must have at least 2 axes [.., n, k], got [4]",
    );
}

#[test]
fn matmul_batches() {
    refuses(
        |b| {
            let w = b.weight("w", F, [3, 8, 4])?;
            let h = input(b, "h", &[4, 2, 4]);
            b.matmul(w, h)
        },
        "matmul \"matmul\" (weights \"w\" F32 [3, 8, 4], x \"h\" F32 [4, 2, 4]): batch size of x (4) must be a multiple of that of the weights (3)",
    );
}

#[test]
fn matmul_of_quantised_activations() {
    refuses(
        |b| {
            let w = b.weight("w", F, [8, 32])?;
            let h = b.input("h", DType::Q8_0, [2, 32])?;
            b.matmul(w, h)
        },
        "matmul \"matmul\" (weights \"w\" F32 [8, 32], x \"h\" Q8_0 [2, 32]): x must be F32, F16 or BF16, got Q8_0; insert a cast",
    );
}

#[test]
fn weight_that_cuts_a_block() {
    refuses(
        |b| b.weight("blk.0.ffn_down.weight", DType::Q4_K, [8, 100]),
        "weight \"blk.0.ffn_down.weight\": Q4_K [8, 100] has no size in bytes: it overflows or its last axis is not whole blocks of 256",
    );
}

#[test]
fn tensor_too_large() {
    refuses(
        |b| b.weight("w", F, [usize::MAX, 8]),
        "weight \"w\": F32 [18446744073709551615, 8] has no size in bytes: it overflows or its last axis is not whole blocks of 1",
    );
}

#[test]
fn too_many_axes() {
    refuses(
        |b| b.input("h", F, [1, 1, 1, 1, 1, 1]),
        "input \"h\": shape [1, 1, 1, 1, 1, 1] has 6 axes, at most 5 are supported",
    );
}

#[test]
fn expert_ids_of_the_wrong_type() {
    refuses(
        |b| {
            let w = b.weight("experts", F, [4, 8, 16])?;
            let h = input(b, "h", &[3, 1, 16]);
            let ids = input(b, "ids", &[3, 2]);
            b.matmul_id(w, h, ids)
        },
        "matmul_id \"matmul_id\" (expert weights \"experts\" F32 [4, 8, 16], x \"h\" F32 [3, 1, 16], expert ids \"ids\" F32 [3, 2]): expert ids must be I32, got F32",
    );
}

#[test]
fn expert_ids_of_other_tokens() {
    refuses(
        |b| {
            let w = b.weight("experts", F, [4, 8, 16])?;
            let h = input(b, "h", &[3, 1, 16]);
            let ids = b.input("ids", DType::I32, [5, 2])?;
            b.matmul_id(w, h, ids)
        },
        "matmul_id \"matmul_id\" (expert weights \"experts\" F32 [4, 8, 16], x \"h\" F32 [3, 1, 16], expert ids \"ids\" I32 [5, 2]): number of tokens differs: expert ids has 5, x has 3",
    );
}

#[test]
fn expert_rows_neither_one_nor_n_used() {
    refuses(
        |b| {
            let w = b.weight("experts", F, [4, 8, 16])?;
            let h = input(b, "h", &[3, 3, 16]);
            let ids = b.input("ids", DType::I32, [3, 2])?;
            b.matmul_id(w, h, ids)
        },
        "matmul_id \"matmul_id\" (expert weights \"experts\" F32 [4, 8, 16], x \"h\" F32 [3, 3, 16], expert ids \"ids\" I32 [3, 2]): rows per token (1 or n_used) differs: x has 3, expert ids has 2",
    );
}

#[test]
fn router_with_more_used_than_there_are() {
    refuses(
        |b| {
            let logits = input(b, "logits", &[3, 8]);
            let r = RouteExperts {
                n_used: 9,
                gating: Gating::Softmax,
                normalise: true,
                scale: Real(1.0),
            };
            b.route_experts(r, logits)
        },
        "route_experts \"route_experts\" (router logits \"logits\" F32 [3, 8]): experts per token is 9, at most 8 is possible",
    );
}

#[test]
fn top_k_of_too_many() {
    refuses(
        |b| {
            let p = input(b, "p", &[3, 8]);
            b.top_k(p, 9)
        },
        "top_k \"top_k\" (x \"p\" F32 [3, 8]): k is 9, at most 8 is possible",
    );
}

#[test]
fn argsort_of_halves() {
    refuses(
        |b| {
            let p = b.input("p", DType::F16, [3, 8])?;
            b.argsort(p, SortOrder::Descending)
        },
        "argsort \"argsort\" (x \"p\" F16 [3, 8]): x must be F32, got F16; insert a cast",
    );
}

/// What `sample` refuses of a cursor, logits, settings and seeds; the cursor is a state.
fn refuses_sample(
    cursor: [usize; 2],
    logits: &'static [usize],
    settings: [usize; 2],
    seeds: DType,
    message: &str,
) {
    refuses(
        |b| {
            let cursor = b.state("cursor", DType::I32, cursor)?;
            let logits = input(b, "logits", logits);
            let settings = b.input("settings", F, settings)?;
            let seeds = b.input("seeds", seeds, [2])?;
            b.sample(cursor, logits, settings, seeds)
        },
        message,
    );
}

#[test]
fn sample_of_other_sizes() {
    use DType::{I32, I64};
    refuses_sample(
        [3, 2],
        &[2, 9],
        [2, 8],
        I64,
        "sample \"sample\" (cursor \"cursor\" I32 [3, 2], logits \"logits\" F32 [2, 9], settings \"settings\" F32 [2, 8], seeds \"seeds\" I64 [2]): cursor must have at least 4 rows [4 + recent tokens, sequences], got [3, 2]",
    );
    refuses_sample(
        [20, 2],
        &[1, 9],
        [2, 8],
        I64,
        "sample \"sample\" (cursor \"cursor\" I32 [20, 2], logits \"logits\" F32 [1, 9], settings \"settings\" F32 [2, 8], seeds \"seeds\" I64 [2]): number of sequences differs: logits has 1, cursor has 2",
    );
    refuses_sample(
        [20, 2],
        &[2, 0],
        [2, 8],
        I64,
        "sample \"sample\" (cursor \"cursor\" I32 [20, 2], logits \"logits\" F32 [2, 0], settings \"settings\" F32 [2, 8], seeds \"seeds\" I64 [2]): vocabulary = 0 is not allowed: it must be from 1 to 2^24",
    );
    refuses_sample(
        [20, 2],
        &[2, 9],
        [2, 7],
        I64,
        "sample \"sample\" (cursor \"cursor\" I32 [20, 2], logits \"logits\" F32 [2, 9], settings \"settings\" F32 [2, 7], seeds \"seeds\" I64 [2]): settings must have 2 axes [sequences, 8], got [2, 7]",
    );
    refuses_sample(
        [20, 2],
        &[2, 9],
        [2, 8],
        I32,
        "sample \"sample\" (cursor \"cursor\" I32 [20, 2], logits \"logits\" F32 [2, 9], settings \"settings\" F32 [2, 8], seeds \"seeds\" I32 [2]): seeds must be I64, got I32",
    );
}

#[test]
fn sample_over_an_input() {
    refuses(
        |b| {
            let cursor = b.input("cursor", DType::I32, [4, 1])?;
            let logits = input(b, "logits", &[1, 9]);
            let settings = input(b, "settings", &[1, 8]);
            let seeds = b.input("seeds", DType::I64, [1])?;
            b.sample(cursor, logits, settings, seeds)
        },
        "sample \"sample\" (cursor \"cursor\" I32 [4, 1], logits \"logits\" F32 [1, 9], settings \"settings\" F32 [1, 8], seeds \"seeds\" I64 [1]): cursor cannot be written: it is an input; use a state or the result of an op",
    );
}
