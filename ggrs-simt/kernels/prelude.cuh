// What every kernel file starts with: integer names, dtypes, half formats, warp and block reductions, views, faults.
// Written for NVRTC, hiprtc and the simulator's C++ compiler: no system header, warp width never a literal.
//
// A kernel is `KERNEL(name, Params, threads, blocks_per_sm) { ... }`: it sees its parameter block as `p`.

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#if !defined(GGRS_SIM)
#define KERNEL(name, Params, n_threads, n_blocks) \
    extern "C" __global__ void __launch_bounds__(n_threads, n_blocks) name(const __grid_constant__ Params p)
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) u8 name[]
#if defined(__HIP_PLATFORM_AMD__)
#define WARP ((int)__builtin_amdgcn_wavefrontsize())
#else
#define WARP 32
#endif
#endif

#define DEVICE static __device__ __forceinline__
#define FULL_MASK 0xffffffffu

// --- dtypes, numbered as `ggrs_core::DType::ALL` ---------------------------------------------------------------------

enum DType {
    F32, F16, BF16, I32, I64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4
};

#define INFINITY_F __int_as_float(0x7f800000)

// --- half formats by their bits ---------------------------------------------------------------------------------------

#if defined(GGRS_SIM) || defined(__HIP_PLATFORM_AMD__)
DEVICE float f16_to_f32(u16 h) { _Float16 f; __builtin_memcpy(&f, &h, 2); return (float)f; }
DEVICE u16 f32_to_f16(float f) { _Float16 h = (_Float16)f; u16 bits; __builtin_memcpy(&bits, &h, 2); return bits; }
#else
DEVICE float f16_to_f32(u16 h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
DEVICE u16 f32_to_f16(float f) { u16 h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
#endif
DEVICE float bf16_to_f32(u16 h) { return __uint_as_float((u32)h << 16); }
// Round to nearest even; a NaN stays one.
DEVICE u16 f32_to_bf16(float f) {
    u32 bits = __float_as_uint(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// --- programmatic dependent launch --------------------------------------------------------------------------------------

// Nothing that an earlier launch wrote may be read, and nothing it reads be written, before WAIT. Weights may be read.
#if !defined(GGRS_SIM) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define WAIT() asm volatile("griddepcontrol.wait;" ::: "memory")
#define TRIGGER() asm volatile("griddepcontrol.launch_dependents;" ::: "memory")
#else
#define WAIT()
#define TRIGGER()
#endif

// --- warps and blocks ---------------------------------------------------------------------------------------------------

#define LANE ((int)threadIdx.x % WARP)
#define WARP_ID ((int)threadIdx.x / WARP)
#define N_WARPS ((int)blockDim.x / WARP)

template <typename T> DEVICE T warp_sum(T v) {
    for (int step = WARP / 2; step > 0; step /= 2) v += __shfl_xor_sync(FULL_MASK, v, step);
    return v;
}
DEVICE float warp_max(float v) {
    for (int step = WARP / 2; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(FULL_MASK, v, step));
    return v;
}

// Sum over the block, the same bits in every thread; `space` is shared memory for 32 values. All threads must call it.
template <typename T> DEVICE T block_sum(T v, T* space) {
    v = warp_sum(v);
    if (N_WARPS == 1) return v;
    __syncthreads();
    if (LANE == 0) space[WARP_ID] = v;
    __syncthreads();
    return warp_sum(LANE < N_WARPS ? space[LANE] : T(0));
}
DEVICE float block_max(float v, float* space) {
    v = warp_max(v);
    if (N_WARPS == 1) return v;
    __syncthreads();
    if (LANE == 0) space[WARP_ID] = v;
    __syncthreads();
    float max = space[0];
    for (int w = 1; w < N_WARPS; w++) max = fmaxf(max, space[w]);
    return max;
}

// --- views: `View` of params.rs -----------------------------------------------------------------------------------------

// A tensor of up to 5 axes, outermost first, missing axes in front with size 1. Strides count elements.
struct View {
    u8* data;
    i64 stride[5];
    i32 size[5];
    i32 dtype;
};
static_assert(sizeof(View) == 72, "View of params.rs");

DEVICE i64 view_rows(const View& v) { return (i64)v.size[0] * v.size[1] * v.size[2] * v.size[3]; }

// Offset in elements of row `row` (all axes but the last, flattened).
DEVICE i64 row_offset(const View& v, i64 row) {
    i64 at = 0;
    for (int axis = 3; axis >= 0; axis--) {
        at += row % v.size[axis] * v.stride[axis];
        row /= v.size[axis];
    }
    return at;
}

// Scalars of a float dtype.
DEVICE float load_float(const u8* data, i32 dtype, i64 i) {
    if (dtype == F32) return ((const float*)data)[i];
    u16 h = ((const u16*)data)[i];
    return dtype == F16 ? f16_to_f32(h) : bf16_to_f32(h);
}
DEVICE void store_float(u8* data, i32 dtype, i64 i, float v) {
    if (dtype == F32) ((float*)data)[i] = v;
    else ((u16*)data)[i] = dtype == F16 ? f32_to_f16(v) : f32_to_bf16(v);
}
// An id of I32 or I64.
DEVICE i64 load_id(const u8* data, i32 dtype, i64 i) {
    return dtype == I32 ? (i64)((const i32*)data)[i] : ((const i64*)data)[i];
}

// --- faults: `Fault` of params.rs ---------------------------------------------------------------------------------------

// Where a launch reports bad data: the least row counts. `flag` lies in host memory.
struct FaultCell {
    u64* least;
    u32* flag;
};
static_assert(sizeof(FaultCell) == 16, "FaultCell of params.rs");

// Row below 2^32; the index is clamped to 32 bits.
DEVICE void report_fault(const FaultCell& cell, i64 row, i64 index) {
    i64 clamped = index < -2147483648LL ? -2147483648LL : index > 2147483647LL ? 2147483647LL : index;
    atomicMin(cell.least, ((u64)(u32)row << 32) | (u64)((u32)(i32)clamped ^ 0x80000000u));
    *(volatile u32*)cell.flag = 1;
}
