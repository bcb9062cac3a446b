// Matrix products in F32 with weights of any dtype, as they lie, and activations of any float dtype: exact mode, and
// every shape, stride and form that no faster kernel takes. A warp has two rows of weights and up to five activations;
// its lanes lie side by side along k.

#include "product.cuh"

#define ROWS 2
#define TOKENS 5

// Two rows of one weight tensor: the blocks, or the scalars, from each row's first on.
struct Rows {
    Planes planes[ROWS];
    const u8* data[ROWS];
};

template <int DTYPE> DEVICE float weight(const Rows& rows, int row, int i) {
    if constexpr (is_block(DTYPE)) {
        constexpr int N = block_elems(DTYPE);
        return element_of<DTYPE>(rows.planes[row], i / N, i % N);
    } else {
        return load_float(rows.data[row], DTYPE, i);
    }
}

// Sums over k of `n` activations; the lane `row * N + token` gets the sum of that row and activation.
template <int DTYPE, int N> DEVICE float sums(const Rows& rows, int k, const View& x, const i64* x_at) {
    float sum[ROWS][N];
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < N; t++) sum[r][t] = 0.0f;
#pragma unroll 1
    for (int i = LANE; i < k; i += WARP) {
        float w[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) w[r] = weight<DTYPE>(rows, r, i);
#pragma unroll
        for (int t = 0; t < N; t++) {
            float value = load_float(x.data, x.dtype, x_at[t] + i);
#pragma unroll
            for (int r = 0; r < ROWS; r++) sum[r][t] = fmaf(w[r], value, sum[r][t]);
        }
    }
    float mine = 0.0f;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int t = 0; t < N; t++) {
            float total = warp_sum(sum[r][t]);
            if (LANE == r * N + t) mine = total;
        }
    }
    return mine;
}

template <int N> DEVICE float sums_of(i32 dtype, const Rows& rows, int k, const View& x, const i64* x_at) {
    float mine = 0.0f;
#define SUMS(DTYPE) mine = sums<DTYPE, N>(rows, k, x, x_at)
    switch (dtype) {
        case F32: SUMS(F32); break;
        case F16: SUMS(F16); break;
        case BF16: SUMS(BF16); break;
        default: WITH_FORMAT(dtype, SUMS)
    }
#undef SUMS
    return mine;
}

// Rows `row..` of the weights `p.weights[which]`, whose matrix starts at element `matrix`. A row past the last is it.
DEVICE Rows rows_of(const Product& p, int which, i64 matrix, int row) {
    Rows rows;
    const View& w = p.weights[which];
    for (int r = 0; r < ROWS; r++) {
        int at = row + r < w.size[3] ? row + r : w.size[3] - 1;
        i64 elem = matrix + at * w.stride[3];
        rows.planes[r] = planes_from(p.planes[which], elem / block_elems(w.dtype));
        rows.data[r] = w.data + elem * (w.dtype == F32 ? 4 : 2);
    }
    return rows;
}

// Rows `row..` of the weights that start at element `first` (and `second`) times `N` activations: what lane
// `r * N + token` is to write.
template <int N> DEVICE float multiply(const Product& p, i64 first, i64 second, int row, const i64* x_at) {
    float value = 0.0f;
#pragma unroll 1
    for (int which = 0; which < p.n_weights; which++) {
        Rows rows = rows_of(p, which, which == 0 ? first : second, row);
        float sum = sums_of<N>(p.weights[which].dtype, rows, p.x.size[4], p.x, x_at);
        value = which == 0 ? sum : glu_gate(p.glu, value) * sum;
    }
    return value;
}

template <int N> DEVICE void tile(const Product& p, i64 batch, int token, int row) {
    i64 x_at[N];
    for (int t = 0; t < N; t++) {
        int at = token + t < p.n_tokens ? token + t : p.n_tokens - 1;
        x_at[t] = row_offset(p.x, batch * p.n_tokens + at);
    }
    // One matrix for all: the batches of x are just more activations.
    bool is_one = p.n_batches == 1;
    i64 first = is_one ? 0 : matrix_offset(p.weights[0], p.x, batch);
    i64 second = is_one || p.n_weights == 1 ? 0 : matrix_offset(p.weights[1], p.x, batch);
    float value = multiply<N>(p, first, second, row, x_at);
    int r = row + LANE / N, t = token + LANE % N;
    if (LANE < ROWS * N && r < p.out.size[4] && t < p.n_tokens) {
        ((float*)p.out.data)[row_offset(p.out, batch * p.n_tokens + t) + r * p.out.stride[4]] = value;
    }
}

// Blocks along x share the rows of weights, blocks along y the activations.
KERNEL(product, Product, 256, 2) {
    WAIT();
    TRIGGER();
    int tiles = (p.n_tokens + TOKENS - 1) / TOKENS;
    for (i64 task = blockIdx.y; task < (i64)tiles * p.n_batches; task += gridDim.y) {
        i64 batch = task / tiles;
        int token = (int)(task % tiles) * TOKENS;
        int rows = N_WARPS * ROWS;
        for (int row = (blockIdx.x * N_WARPS + WARP_ID) * ROWS; row < p.out.size[4]; row += gridDim.x * rows) {
            if (p.n_tokens - token == 1) tile<1>(p, batch, token, row);
            else tile<TOKENS>(p, batch, token, row);
        }
    }
}

// Blocks along x share the rows of weights, blocks along y the pairs of a token and one of its experts.
KERNEL(product_by_id, Product, 256, 2) {
    WAIT();
    TRIGGER();
    int n_used = p.out.size[3];
    for (i64 pair = blockIdx.y; pair < (i64)p.out.size[2] * n_used; pair += gridDim.y) {
        i64 token = pair / n_used, choice = pair % n_used;
        i32 expert = expert_of(p, token, choice, blockIdx.x == 0 && threadIdx.x == 0);
        i64 x_at = x_of_pair(p.x, token, choice);
        i64 first = expert * p.weights[0].stride[2], second = expert * p.weights[1].stride[2];
        float* out = (float*)p.out.data + token * p.out.stride[2] + choice * p.out.stride[3];
        int rows = N_WARPS * ROWS;
        for (int row = (blockIdx.x * N_WARPS + WARP_ID) * ROWS; row < p.out.size[4]; row += gridDim.x * rows) {
            float value = expert < 0 ? 0.0f : multiply<1>(p, first, second, row, &x_at);
            if (LANE < ROWS && row + LANE < p.out.size[4]) out[(row + LANE) * p.out.stride[4]] = value;
        }
    }
}
