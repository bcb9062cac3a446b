// Float elements, one or four neighbours at once, which then lie at a multiple of their bytes.

#include "prelude.cuh"

template <typename T, int N> struct __attribute__((aligned(sizeof(T) * N))) Row {
    T v[N];
};
template <int N> using Floats = Row<float, N>;

template <int N> DEVICE Floats<N> load_floats(const u8* data, i32 dtype, i64 at) {
    if (dtype == F32) return *(const Floats<N>*)((const float*)data + at);
    Row<u16, N> bits = *(const Row<u16, N>*)((const u16*)data + at);
    Floats<N> x;
#pragma unroll
    for (int i = 0; i < N; i++) x.v[i] = dtype == F16 ? f16_to_f32(bits.v[i]) : bf16_to_f32(bits.v[i]);
    return x;
}
template <int N> DEVICE void store_floats(u8* data, i32 dtype, i64 at, const Floats<N>& x) {
    if (dtype == F32) {
        *(Floats<N>*)((float*)data + at) = x;
        return;
    }
    Row<u16, N> bits;
#pragma unroll
    for (int i = 0; i < N; i++) bits.v[i] = dtype == F16 ? f32_to_f16(x.v[i]) : f32_to_bf16(x.v[i]);
    *(Row<u16, N>*)((u16*)data + at) = bits;
}
