// Causal depthwise convolution over the joined state and tokens, in F32.

#include "prelude.cuh"

struct ConvParams {
    // [sequences, channels, taps - 1 + tokens]; rows have no gaps.
    View x;
    // [channels, taps]
    const float* weights;
    // [sequences, tokens, channels]
    float* out;
    i32 n_taps;
    i32 n_tokens;
};
static_assert(sizeof(ConvParams) == 96, "ConvParams of recurrent.rs");

DEVICE const float* channel_of(const ConvParams& p, int sequence, int channel) {
    return (const float*)p.x.data + sequence * p.x.stride[2] + channel * p.x.stride[3];
}

// One thread per result: few tokens, or more taps than the tiles take.
KERNEL(conv_each, ConvParams, 256, 4) {
    WAIT();
    TRIGGER();
    int n_channels = p.x.size[3];
    i64 n = (i64)p.x.size[2] * p.n_tokens * n_channels, step = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        int channel = (int)(i % n_channels);
        i64 token = i / n_channels;
        const float* x = channel_of(p, (int)(token / p.n_tokens), channel) + token % p.n_tokens;
        const float* w = p.weights + (i64)channel * p.n_taps;
        float sum = 0.0f;
        for (int j = 0; j < p.n_taps; j++) sum += x[j] * w[j];
        p.out[i] = sum;
    }
}

#define CHANNELS 32
#define TOKENS 64

// Tiles of channels by tokens: tokens lie side by side in `x`, channels in the results.
KERNEL(conv_tiles, ConvParams, 256, 4) {
    WAIT();
    TRIGGER();
    DYNAMIC_SHARED(space);
    int n_channels = p.x.size[3], n_columns = TOKENS - 1 + p.n_taps;
    int n_across = (n_channels + CHANNELS - 1) / CHANNELS, n_along = (p.n_tokens + TOKENS - 1) / TOKENS;
    int channel = (int)(blockIdx.x % n_across) * CHANNELS;
    int token = (int)(blockIdx.x / n_across % n_along) * TOKENS;
    int sequence = (int)(blockIdx.x / n_across / n_along);
    // Odd distances: a column's elements lie in different banks.
    int pitch = n_columns | 1, tap_pitch = p.n_taps | 1;
    float* tile = (float*)space;
    float* taps = tile + CHANNELS * pitch;
    for (int i = threadIdx.x; i < CHANNELS * n_columns; i += blockDim.x) {
        int c = i / n_columns, t = i % n_columns;
        bool is_there = channel + c < n_channels && token + t < p.n_tokens - 1 + p.n_taps;
        tile[c * pitch + t] = is_there ? channel_of(p, sequence, channel + c)[token + t] : 0.0f;
    }
    for (int i = threadIdx.x; i < CHANNELS * p.n_taps; i += blockDim.x) {
        int c = i / p.n_taps, j = i % p.n_taps;
        taps[c * tap_pitch + j] = channel + c < n_channels ? p.weights[(i64)(channel + c) * p.n_taps + j] : 0.0f;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHANNELS * TOKENS; i += blockDim.x) {
        int c = i % CHANNELS, t = i / CHANNELS;
        if (channel + c >= n_channels || token + t >= p.n_tokens) continue;
        float sum = 0.0f;
        for (int j = 0; j < p.n_taps; j++) sum += tile[c * pitch + t + j] * taps[c * tap_pitch + j];
        p.out[((i64)sequence * p.n_tokens + token + t) * n_channels + channel + c] = sum;
    }
}
