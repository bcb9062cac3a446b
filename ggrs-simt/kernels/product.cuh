// What matrix products have in common: which weights a row of activations meets, and where its results go.

#include "formats.cuh"
#include "gate.cuh"

// `Product` of product/params.rs. Weights `[.., m, k]`, or gate and up; x `[.., n, k]`; out F32 `[.., n, m]`.
// By id: weights `[held, m, k]`, x `[tokens, 1 or n_used, k]`, ids `[tokens, n_used]`, out `[tokens, n_used, m]`.
struct Product {
    View weights[2];
    Planes planes[2];
    View x;
    View out;
    View ids;
    FaultCell fault;
    i32 n_weights;
    i32 glu;
    // By id: the first of the `held` experts, and how many there are in all.
    i32 first;
    i32 held;
    i32 total;
    // Dense: batches that meet different weights, and activations in each.
    i32 n_batches;
    i32 n_tokens;
    i32 pad;
};
static_assert(sizeof(Product) == 504, "Product of product/params.rs");

// Offset in elements of the matrix that batch `batch` of x meets: neighbours share one if there are fewer matrices.
DEVICE i64 matrix_offset(const View& weights, const View& x, i64 batch) {
    i64 at = 0;
    for (int axis = 2; axis >= 0; axis--) {
        i64 i = batch % x.size[axis];
        batch /= x.size[axis];
        at += i / (x.size[axis] / weights.size[axis]) * weights.stride[axis];
    }
    return at;
}

// The expert of a pair of a token and one of its choices: its place among those held, or -1. Ids out of range are
// reported once, by the block that says so.
DEVICE i32 expert_of(const Product& p, i64 token, i64 choice, bool reports) {
    i64 id = load_id(p.ids.data, p.ids.dtype, token * p.ids.stride[3] + choice * p.ids.stride[4]);
    if (id < 0 || id >= p.total) {
        if (reports) report_fault(p.fault, token, id);
        return -1;
    }
    i64 place = id - p.first;
    return place >= 0 && place < p.held ? (i32)place : -1;
}

// Offset in elements of the row of x that a pair multiplies.
DEVICE i64 x_of_pair(const View& x, i64 token, i64 choice) {
    i64 row = choice < x.size[3] ? choice : x.size[3] - 1;
    return token * x.stride[2] + row * x.stride[3];
}
