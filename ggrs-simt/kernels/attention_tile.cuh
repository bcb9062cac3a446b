// Keys and values of dtype KV as what matrix units take: rows in memory, eight elements at a time, weights and products.

#include "attention.cuh"
#include "matrix.cuh"

#define LOG2_E 1.44269504f
#define LN_2 0.69314718f

#if defined(GGRS_SIM) || defined(__HIP_PLATFORM_AMD__)
DEVICE float exp2_fast(float x) { return exp2f(x); }
#else
DEVICE float exp2_fast(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
#endif

// Block formats are multiplied as F16.
DEVICE void mma(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    if constexpr (KV == BF16) mma_bf16(c, a, b);
    else mma_f16(c, a, b);
}
DEVICE u32 pack(float first, float second) {
    if constexpr (KV == BF16) return pack_bf16(first, second);
    else return pack_f16(first, second);
}

DEVICE float float_of(u16 bits) {
    if constexpr (KV == BF16) return bf16_to_f32(bits);
    else return f16_to_f32(bits);
}

// Scores stay as they come from the matrix units where a factor is all that is missing, and are weighed as
// `2^(score * unit)`.
DEVICE bool has_plain_scores(const AttentionParams& p) { return p.softcap == 0.0f && p.scale > 0.0f; }
DEVICE float score_unit(const AttentionParams& p) { return has_plain_scores(p) ? p.scale * LOG2_E : LOG2_E; }
template <int N> DEVICE void finish_scores(const AttentionParams& p, float (&scores)[N][4]) {
    if (has_plain_scores(p)) return;
#pragma unroll
    for (int i = 0; i < N * 4; i++) scores[i / 4][i % 4] = soft_capped(p, scores[i / 4][i % 4] * p.scale);
}

// Eight elements of the queries.
DEVICE void load_query_part(float (&x)[8], const AttentionParams& p, i64 at) {
    const float* from = (const float*)p.q.data + at;
    if (p.q.dtype == F32 && (u64)from % 16 == 0) {
        float4 first = *(const float4*)from, second = *(const float4*)(from + 4);
        x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
        x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = load_float(p.q.data, p.q.dtype, at + i);
    }
}
DEVICE uint4 packed(const float (&x)[8]) {
    return {pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])};
}

// The rows of one key head.
struct Rows {
    const u8* start;
    // Bytes from a cell to the next.
    u32 pitch;
};
// From element `elem` of each row on, a multiple of 32.
DEVICE Rows rows_of(const View& view, const Planes& planes, i32 key_head, i32 elem) {
    i64 at = key_head * view.stride[3] + elem;
    // A block in the file's layout starts with its scale.
    if constexpr (KV == Q8_0) return {planes.start[1] + at / 32 * 34, (u32)(view.stride[2] / 32 * 34)};
    else return {view.data + at * 2, (u32)(view.stride[2] * 2)};
}

// Eight elements as they lie in memory, the first a multiple of eight in its row.
template <int DTYPE> struct EightOf {
    uint4 halves;
};
template <> struct EightOf<Q8_0> {
    u32 quants[2];
    u32 scale;
};
typedef EightOf<KV> Eight;

template <int DTYPE> DEVICE void load(EightOf<DTYPE>& to, const u8* row, int elem) {
    to.halves = *(const uint4*)(row + elem * 2);
}
// Blocks lie at even addresses: whole words, of which the last is read only if some of it is wanted.
DEVICE void load(EightOf<Q8_0>& to, const u8* row, int elem) {
    const u8* block = row + elem / 32 * 34;
    const u8* quants = block + 2 + elem % 32;
    int odd = (int)((u64)quants & 2);
    const u32* words = (const u32*)(quants - odd);
    u32 last = odd ? words[2] : 0;
    to.quants[0] = __funnelshift_r(words[0], words[1], odd * 8);
    to.quants[1] = __funnelshift_r(words[1], last, odd * 8);
    to.scale = *(const u16*)block;
}
// Zeros unless they are there: a weight of zero would not hide a NaN.
DEVICE Eight load_eight(const u8* row, int elem, bool is_there) {
    Eight eight = {};
    if (is_there) load(eight, row, elem);
    return eight;
}

template <int DTYPE> DEVICE uint4 halves_of(const EightOf<DTYPE>& eight) { return eight.halves; }
DEVICE uint4 halves_of(const EightOf<Q8_0>& eight) {
    float scale = f16_to_f32((u16)eight.scale);
    u32 pairs[4];
    for (int i = 0; i < 4; i++) {
        u32 two = eight.quants[i / 2] >> i % 2 * 16;
        pairs[i] = pack_f16((float)(i8)two * scale, (float)(i8)(two >> 8) * scale);
    }
    return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

// Starts to copy eight elements to shared memory; what has to be converted is there at once.
template <int DTYPE> DEVICE void copy_eight(void* to, const u8* row, int elem, bool is_there) {
    if constexpr (DTYPE == Q8_0) *(uint4*)to = halves_of(load_eight(row, elem, is_there));
    else cp_async_16_or_zero(to, row + elem * 2, is_there);
}
