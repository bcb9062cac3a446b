// Matrix units (`mma.sync` of sm_80), the loads that feed them, and copies to shared memory behind the computation.
// Elsewhere the same by shuffles: lane layouts are those of the instructions, for every 32 lanes of a warp.
//
// With row = lane / 4 and pair = lane % 4: the accumulator's c[0], c[1] are columns 2 pair, 2 pair + 1 of `row`, c[2],
// c[3] of row + 8. Rows of A and columns of B hold 16 16-bit (32 8-bit) values; a register is two (four) of them:
// a[0] is register `pair` of `row`, a[1] of row + 8; a[2], a[3] the same of the second half; b[0], b[1] are register
// `pair` of both halves of column `row`. A register of TF32 is one value, its upper 19 bits.

#include "prelude.cuh"

// Where 16 bytes of a row lie in a panel of rows of 128 bytes in shared memory: rows below each other use different banks.
DEVICE int swizzled(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

#if defined(GGRS_SIM) || defined(__HIP_PLATFORM_AMD__)

#define MATRIX_LANE ((int)threadIdx.x % 32)
// Lane `i` of this lane's 32.
#define MATRIX_PEER(i) ((LANE & ~31) + (i))

// What other lanes have.
template <int N> DEVICE void take_from(u64 (&taken)[N], u64 value, const int (&lanes)[N]) {
#if defined(GGRS_SIM)
    // One meeting of the lanes instead of many.
    const u64* values = ggrs_sim_exchange(GGRS_SIM_SHUFFLE, FULL_MASK, value);
    for (int i = 0; i < N; i++) taken[i] = values[lanes[i]];
#else
    for (int i = 0; i < N; i++) taken[i] = __shfl_sync(FULL_MASK, value, lanes[i]);
#endif
}
DEVICE u64 both(u32 lower, u32 upper) { return lower | (u64)upper << 32; }

template <typename C, typename Dot> DEVICE void mma_by_shuffles(C (&c)[4], const u32 (&a)[4], const u32 (&b)[2], Dot dot) {
    int rows[4], columns[8];
    for (int pair = 0; pair < 4; pair++) {
        rows[pair] = MATRIX_PEER(MATRIX_LANE / 4 * 4 + pair);
        columns[pair] = MATRIX_PEER(MATRIX_LANE % 4 * 8 + pair);
        columns[pair + 4] = MATRIX_PEER(MATRIX_LANE % 4 * 8 + 4 + pair);
    }
    u64 y[8];
    take_from(y, both(b[0], b[1]), columns);
    for (int half = 0; half < 2; half++) {
        u64 x[4];
        take_from(x, both(a[half * 2], a[half * 2 + 1]), rows);
        for (int pair = 0; pair < 4; pair++) {
            u32 upper = (u32)x[pair], lower = (u32)(x[pair] >> 32);
            u32 left = (u32)(y[pair] >> half * 32), right = (u32)(y[pair + 4] >> half * 32);
            c[0] += dot(upper, left);
            c[1] += dot(upper, right);
            c[2] += dot(lower, left);
            c[3] += dot(lower, right);
        }
    }
}
DEVICE float dot_bf16(u32 x, u32 y) {
    return __uint_as_float(x << 16) * __uint_as_float(y << 16) +
           __uint_as_float(x & 0xffff0000u) * __uint_as_float(y & 0xffff0000u);
}
DEVICE float dot_f16(u32 x, u32 y) {
    return f16_to_f32((u16)x) * f16_to_f32((u16)y) + f16_to_f32((u16)(x >> 16)) * f16_to_f32((u16)(y >> 16));
}
DEVICE float dot_tf32(u32 x, u32 y) { return __uint_as_float(x & 0xffffe000u) * __uint_as_float(y & 0xffffe000u); }
DEVICE int dot_s8(u32 x, u32 y) {
    int sum = 0;
    for (int i = 0; i < 32; i += 8) sum += (int)(i8)(x >> i) * (int)(i8)(y >> i);
    return sum;
}

// c += a b: 16x8 from 16x16 and 16x8.
DEVICE void mma_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_by_shuffles(c, a, b, dot_bf16); }
DEVICE void mma_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_by_shuffles(c, a, b, dot_f16); }
// 16x8 from 16x8 and 8x8.
DEVICE void mma_tf32(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_by_shuffles(c, a, b, dot_tf32); }
// 16x8 from 16x32 and 32x8.
DEVICE void mma_s8(int (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_by_shuffles(c, a, b, dot_s8); }

template <int N> DEVICE void load_matrices(u32 (&r)[N], const void* row) {
    int lanes[N];
    u64 at[N];
    for (int i = 0; i < N; i++) lanes[i] = MATRIX_PEER(i * 8 + MATRIX_LANE / 4);
    take_from(at, (u64)row, lanes);
    for (int i = 0; i < N; i++) r[i] = ((const u32*)at[i])[MATRIX_LANE % 4];
}
template <int N> DEVICE void load_matrices_turned(u32 (&r)[N], const void* row) {
    int lanes[N * 2];
    u64 at[N * 2];
    for (int i = 0; i < N * 2; i++) lanes[i] = MATRIX_PEER(i / 2 * 8 + MATRIX_LANE % 4 * 2 + i % 2);
    take_from(at, (u64)row, lanes);
    for (int i = 0; i < N; i++) {
        u16 first = ((const u16*)at[i * 2])[MATRIX_LANE / 4], second = ((const u16*)at[i * 2 + 1])[MATRIX_LANE / 4];
        r[i] = first | (u32)second << 16;
    }
}

// 8x8 matrices of 16-bit values in shared memory: lane i has the address of row i % 8 (16 bytes) of matrix i / 8.
// Lane i gets values 2 (i % 4) and the next of row i / 4; `_trans`: of the turned matrix.
DEVICE void ldmatrix_x4(u32 (&r)[4], const void* row) { load_matrices(r, row); }
DEVICE void ldmatrix_x2(u32 (&r)[2], const void* row) { load_matrices(r, row); }
DEVICE void ldmatrix_x4_trans(u32 (&r)[4], const void* row) { load_matrices_turned(r, row); }
DEVICE void ldmatrix_x2_trans(u32 (&r)[2], const void* row) { load_matrices_turned(r, row); }

// The turned matrix of one 8x8 matrix of 16-bit values in registers.
DEVICE u32 turned_matrix(u32 r) {
    int row = MATRIX_LANE / 4, column = MATRIX_LANE % 4 * 2;
    u32 first = __shfl_sync(FULL_MASK, r, MATRIX_PEER(column * 4 + row / 2));
    u32 second = __shfl_sync(FULL_MASK, r, MATRIX_PEER((column + 1) * 4 + row / 2));
    int shift = row % 2 * 16;
    return (first >> shift & 0xffff) | (second >> shift & 0xffff) << 16;
}

// Two values, the first in the lower half.
DEVICE u32 pack_f16(float first, float second) { return (u32)f32_to_f16(first) | (u32)f32_to_f16(second) << 16; }
DEVICE u32 pack_bf16(float first, float second) { return (u32)f32_to_bf16(first) | (u32)f32_to_bf16(second) << 16; }
// The lower halves of two registers, and the upper ones.
DEVICE u32 lower_halves(u32 first, u32 second) { return (first & 0xffff) | second << 16; }
DEVICE u32 upper_halves(u32 first, u32 second) { return first >> 16 | (second & 0xffff0000u); }

// 16 bytes from global to shared memory, both aligned; zeros unless it is there.
DEVICE void cp_async_16(void* shared, const void* global) { *(uint4*)shared = *(const uint4*)global; }
DEVICE void cp_async_16_or_zero(void* shared, const void* global, bool is_there) {
    uint4 none = {0, 0, 0, 0};
    *(uint4*)shared = is_there ? *(const uint4*)global : none;
}
// Closes a group of copies; waits until at most N groups are under way. Other threads' copies need a barrier as well.
DEVICE void cp_async_commit() {}
template <int N> DEVICE void cp_async_wait() {}
// Brings 128 bytes of global memory into the second cache.
DEVICE void prefetch_l2(const void*) {}

#else

// c += a b: 16x8 from 16x16 and 16x8.
DEVICE void mma_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// 16x8 from 16x8 and 8x8.
DEVICE void mma_tf32(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// 16x8 from 16x32 and 32x8.
DEVICE void mma_s8(int (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE u32 shared_address(const void* shared) { return (u32)__cvta_generic_to_shared(shared); }

// 8x8 matrices of 16-bit values in shared memory: lane i has the address of row i % 8 (16 bytes) of matrix i / 8.
// Lane i gets values 2 (i % 4) and the next of row i / 4; `_trans`: of the turned matrix.
DEVICE void ldmatrix_x4(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x2(u32 (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x4_trans(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x2_trans(u32 (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

// The turned matrix of one 8x8 matrix of 16-bit values in registers.
DEVICE u32 turned_matrix(u32 r) {
    u32 turned;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(r));
    return turned;
}

// Two values, the first in the lower half.
DEVICE u32 pack_f16(float first, float second) {
    u32 both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}
DEVICE u32 pack_bf16(float first, float second) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}
// The lower halves of two registers, and the upper ones.
DEVICE u32 lower_halves(u32 first, u32 second) { return __byte_perm(first, second, 0x5410); }
DEVICE u32 upper_halves(u32 first, u32 second) { return __byte_perm(first, second, 0x7632); }

// 16 bytes from global to shared memory, both aligned; zeros unless it is there.
DEVICE void cp_async_16(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
DEVICE void cp_async_16_or_zero(void* shared, const void* global, bool is_there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(is_there ? 16 : 0) : "memory");
}
// Closes a group of copies; waits until at most N groups are under way. Other threads' copies need a barrier as well.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
// Brings 128 bytes of global memory into the second cache.
DEVICE void prefetch_l2(const void* global) { asm volatile("prefetch.global.L2 [%0];" ::"l"(global)); }

#endif
