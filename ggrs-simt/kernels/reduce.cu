// Sums and means along any axis, running sums along rows.

#include "axes.cuh"
#include "floats.cuh"

// `ReduceParams` of reduce.rs. A position is an element of the result, which is gapless, or four neighbours; the tensor
// of `axes` is x, at the start of the axis.
struct ReduceParams {
    Axes axes;
    const float* x;
    float* out;
    // Along the axis.
    i64 stride;
    i32 size;
    float factor;
};
static_assert(sizeof(ReduceParams) == 224, "ReduceParams of reduce.rs");

// A sum and what was lost of it in rounding.
struct Total {
    float sum, lost;
};
DEVICE void add_to(Total& t, float x) {
    float y = __fsub_rn(x, t.lost), sum = __fadd_rn(t.sum, y);
    t.lost = __fsub_rn(__fsub_rn(sum, t.sum), y);
    t.sum = sum;
}

// One thread for each result.
template <int N> DEVICE void reduce_each(const ReduceParams& p) {
    WAIT();
    TRIGGER();
    i64 i = thread_index();
    if (i >= p.axes.n) return;
    const float* x = p.x + places_of(p.axes, i).at[0];
    Total totals[N] = {};
#pragma unroll 8
    for (int k = 0; k < p.size; k++) {
        Floats<N> v = *(const Floats<N>*)(x + k * p.stride);
#pragma unroll
        for (int j = 0; j < N; j++) add_to(totals[j], v.v[j]);
    }
    Floats<N> out;
#pragma unroll
    for (int j = 0; j < N; j++) out.v[j] = totals[j].sum * p.factor;
    ((Floats<N>*)p.out)[i] = out;
}
KERNEL(reduce_each_4, ReduceParams, 256, 4) { reduce_each<4>(p); }
KERNEL(reduce_each_1, ReduceParams, 256, 4) { reduce_each<1>(p); }

// The sum of every `step`th element.
DEVICE float part_of(const ReduceParams& p, i64 i, int first, int step) {
    const float* x = p.x + places_of(p.axes, i).at[0];
    Total total = {};
#pragma unroll 4
    for (int k = first; k < p.size; k += step) add_to(total, x[k * p.stride]);
    return total.sum;
}
// One warp for each result.
KERNEL(reduce_warp, ReduceParams, 256, 4) {
    WAIT();
    TRIGGER();
    i64 i = (i64)blockIdx.x * N_WARPS + WARP_ID;
    if (i >= p.axes.n) return;
    float sum = warp_sum(part_of(p, i, LANE, WARP));
    if (LANE == 0) p.out[i] = sum * p.factor;
}
// One block for each result.
KERNEL(reduce_block, ReduceParams, 512, 2) {
    __shared__ float space[32];
    WAIT();
    TRIGGER();
    float sum = block_sum(part_of(p, blockIdx.x, threadIdx.x, blockDim.x), space);
    if (threadIdx.x == 0) p.out[blockIdx.x] = sum * p.factor;
}

// `RunningParams` of reduce.rs. A position is a row; the tensor of `rows` is x.
struct RunningParams {
    Axes rows;
    const float* x;
    float* out;
    i32 width;
    i32 pad;
};
static_assert(sizeof(RunningParams) == 216, "RunningParams of reduce.rs");

// The sum of this lane's value and those of all lanes before it.
DEVICE float sum_to_lane(float v) {
    for (int step = 1; step < WARP; step *= 2) {
        float before = __shfl_up_sync(FULL_MASK, v, step);
        if (LANE >= step) v += before;
    }
    return v;
}
// One block, of one warp or several, for each row.
KERNEL(running_sums, RunningParams, 512, 2) {
    __shared__ float space[32];
    WAIT();
    TRIGGER();
    i64 row = blockIdx.x;
    const float* x = p.x + places_of(p.rows, row).at[0];
    float* out = p.out + row * p.width;
    Total total = {};
    for (int start = 0; start < p.width; start += (int)blockDim.x) {
        int i = start + (int)threadIdx.x;
        float sum = sum_to_lane(i < p.width ? x[i] : 0.0f);
        if (LANE == WARP - 1) space[WARP_ID] = sum;
        __syncthreads();
        float of_warps = 0.0f, before = 0.0f;
        for (int w = 0; w < N_WARPS; w++) {
            if (w == WARP_ID) before = of_warps;
            of_warps += space[w];
        }
        if (i < p.width) out[i] = total.sum + (before + sum);
        add_to(total, of_warps);
        __syncthreads();
    }
}
