// Puts the splits of each row of attention together.

#include "attention.cuh"

#define THREADS 128
#define MAX_WIDTH 512
#define MAX_SPLITS 256

KERNEL(attention_combine, AttentionParams, THREADS, 1) {
    __shared__ float factors[MAX_SPLITS];
    __shared__ float space[32];
    i32 n_heads = p.q.size[3], n_tokens = p.q.size[2], width = p.v.size[4];
    i64 row = blockIdx.x;
    i32 head = (i32)(row % n_heads), token = (i32)(row / n_heads % n_tokens), batch = (i32)(row / n_heads / n_tokens);
    WAIT();
    TRIGGER();
    Seen seen = seen_by(p, token);
    i32 n_used = p.has_all_splits ? p.n_splits : splits_in_use(p, seen.end - seen.first);
    // The only split has written the result itself.
    if (n_used == 1) return;

    float sink = sink_of(p, head), largest = sink, total = 0.0f;
    const float2* stats = p.partial_stats + row * p.n_splits;
    for (int i = threadIdx.x; i < n_used; i += THREADS) largest = fmaxf(largest, stats[i].x);
    largest = block_max(largest, space);
    for (int i = threadIdx.x; i < n_used; i += THREADS) {
        float weight = weight_of(stats[i].x, largest);
        factors[i] = weight;
        total += stats[i].y * weight;
    }
    total = block_sum(total, space) + weight_of(sink, largest);
    __syncthreads();
    float share = total > 0.0f ? 1.0f / total : 0.0f;
    float* out = (float*)p.out.data + out_offset(p, batch, token, head);
    const float* sums = p.partial_sums + row * p.n_splits * width;
    for (int e = threadIdx.x; e < width; e += THREADS) {
        float sum = 0.0f;
#pragma unroll 8
        for (int i = 0; i < n_used; i++) sum += factors[i] * sums[(i64)i * width + e];
        out[e] = sum * share;
    }
}
