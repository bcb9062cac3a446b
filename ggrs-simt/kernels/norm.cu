// Norms over rows. A row is read once and kept in the registers of a warp or a block, where it is F32, lies at multiples
// of 16 bytes and is not too wide; else it is read again for each of its sums.

#include "axes.cuh"
#include "floats.cuh"

enum NormKind { RMS, LENGTH, DEVIATION };

// `NormParams` of norm.rs. A position is a row; the tensors of `rows` are x and the addend.
struct NormParams {
    Axes rows;
    const u8* x;
    // May be missing, with `sum`.
    const u8* addend;
    // May be missing.
    const float* weight;
    // x + addend.
    u8* sum;
    u8* out;
    i32 dtype, width;
    i32 kind;
    float eps;
    // Is the weight one that no launch writes?
    i32 is_constant;
    i32 pad;
};
static_assert(sizeof(NormParams) == 256, "NormParams of norm.rs");

// The threads that share a row: a warp or a block.
template <bool IS_WARP> struct Threads {
    float* space;

    __device__ __forceinline__ int index() const { return IS_WARP ? LANE : (int)threadIdx.x; }
    __device__ __forceinline__ int size() const { return IS_WARP ? WARP : (int)blockDim.x; }
    __device__ __forceinline__ i64 row() const {
        return IS_WARP ? (i64)blockIdx.x * N_WARPS + WARP_ID : (i64)blockIdx.x;
    }
    __device__ __forceinline__ float sum(float v) const { return IS_WARP ? warp_sum(v) : block_sum(v, space); }
};

// What a thread's elements of a row, less a centre, add up to.
struct Sums {
    float sum, squares;

    __device__ __forceinline__ void add(float x) {
        sum += x;
        squares += x * x;
    }
};

// What a row becomes: factor * (x - center) + bias.
struct Line {
    float center, factor, bias;
};

// `elements.sums(center)` are the sums of this thread.
template <bool IS_WARP, typename Elements>
DEVICE Line line_of(const NormParams& p, const Threads<IS_WARP>& threads, const Elements& elements) {
    float width = (float)p.width;
    if (p.kind != DEVIATION) {
        float squares = threads.sum(elements.sums(0.0f).squares);
        float divisor = p.kind == RMS ? sqrtf(squares / width + p.eps) : fmaxf(sqrtf(squares), p.eps);
        return {0.0f, 1.0f / divisor, 0.0f};
    }
    // A centre near the mean, then what it is off by: exact however far the mean is from 0.
    float center = threads.sum(elements.sums(0.0f).sum) / width;
    Sums around = elements.sums(center);
    float off = threads.sum(around.sum) / width, squares = threads.sum(around.squares) / width;
    float factor = 1.0f / sqrtf(squares - off * off + p.eps);
    return {center, factor, -off * factor};
}

// Every `step`th four of a row from `first` on, `n` fours in all.
template <int KEPT> struct KeptFours {
    Floats<4> x[KEPT];
    int first, step, n;

    __device__ __forceinline__ bool has(int j) const { return first + j * step < n; }
    __device__ __forceinline__ void load(const float* from) {
#pragma unroll
        for (int j = 0; j < KEPT; j++) {
            if (has(j)) x[j] = ((const Floats<4>*)from)[first + j * step];
        }
    }
    __device__ __forceinline__ void store(float* to) const {
#pragma unroll
        for (int j = 0; j < KEPT; j++) {
            if (has(j)) ((Floats<4>*)to)[first + j * step] = x[j];
        }
    }
    __device__ __forceinline__ Sums sums(float center) const {
        Sums sums = {};
#pragma unroll
        for (int j = 0; j < KEPT; j++) {
            if (!has(j)) break;
#pragma unroll
            for (int e = 0; e < 4; e++) sums.add(x[j].v[e] - center);
        }
        return sums;
    }
};

// Rows of up to 4 * KEPT elements for each thread.
template <bool IS_WARP, int KEPT> DEVICE void norm_kept(const NormParams& p) {
    __shared__ float space[32];
    Threads<IS_WARP> threads = {space};
    i64 row = threads.row();
    KeptFours<KEPT> x = {{}, threads.index(), threads.size(), p.width / 4}, w = x, addend = x;
    bool is_early = p.weight && p.is_constant;
    if (is_early) w.load(p.weight);
    WAIT();
    TRIGGER();
    if (row >= p.rows.n) return;
    Places at = places_of(p.rows, row);
    x.load((const float*)p.x + at.at[0]);
    if (p.weight && !is_early) w.load(p.weight);
    if (p.addend) {
        addend.load((const float*)p.addend + at.at[1]);
#pragma unroll
        for (int j = 0; j < KEPT; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) x.x[j].v[e] += addend.x[j].v[e];
        }
        x.store((float*)p.sum + row * p.width);
    }
    Line line = line_of(p, threads, x);
#pragma unroll
    for (int j = 0; j < KEPT; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float y = line.factor * (x.x[j].v[e] - line.center) + line.bias;
            x.x[j].v[e] = p.weight ? y * w.x[j].v[e] : y;
        }
    }
    x.store((float*)p.out + row * p.width);
}
KERNEL(norm_warp_1, NormParams, 256, 4) { norm_kept<true, 1>(p); }
KERNEL(norm_warp_4, NormParams, 256, 4) { norm_kept<true, 4>(p); }
KERNEL(norm_block_1, NormParams, 1024, 1) { norm_kept<false, 1>(p); }
KERNEL(norm_block_4, NormParams, 1024, 1) { norm_kept<false, 4>(p); }

// Elements that are read again for each sum.
struct ReadAgain {
    const u8* x;
    const u8* addend;
    i32 dtype;
    int first, step, n;

    __device__ __forceinline__ float at(int i) const {
        float v = load_float(x, dtype, i);
        return addend ? v + load_float(addend, dtype, i) : v;
    }
    __device__ __forceinline__ Sums sums(float center) const {
        Sums sums = {};
        for (int i = first; i < n; i += step) sums.add(at(i) - center);
        return sums;
    }
};

DEVICE const u8* row_at(const u8* data, i32 dtype, i64 at) { return data + at * (dtype == F32 ? 4 : 2); }

// Rows of any dtype and width: one block per row.
KERNEL(norm_any, NormParams, 256, 4) {
    __shared__ float space[32];
    Threads<false> threads = {space};
    WAIT();
    TRIGGER();
    i64 row = threads.row();
    Places at = places_of(p.rows, row);
    const u8* addend = p.addend ? row_at(p.addend, p.dtype, at.at[1]) : nullptr;
    ReadAgain x = {row_at(p.x, p.dtype, at.at[0]), addend, p.dtype, threads.index(), threads.size(), p.width};
    Line line = line_of(p, threads, x);
    for (int i = x.first; i < p.width; i += x.step) {
        float v = x.at(i), y = line.factor * (v - line.center) + line.bias;
        i64 to = row * p.width + i;
        if (p.sum) store_float(p.sum, p.dtype, to, v);
        store_float(p.out, p.dtype, to, p.weight ? y * p.weight[i] : y);
    }
}
