// Matrix units of sm_90a: products that a group of four warps starts and does not wait for, with the left factor in
// registers and the right one in shared memory. There is no twin of them elsewhere.
//
// Lanes hold rows of A and sums as with `mma.sync`, warp w of the group those of rows 16 w.. of 64. Shared memory has
// rows of 128 bytes, a column of B each, 16-byte chunks as `swizzled` places them, from a multiple of 1024 bytes on.

#include "matrix.cuh"

// What a factor at an address of shared memory is: 8 rows take 1024 bytes, chunks are swizzled over 128 bytes.
DEVICE u64 shared_factor(u32 at) { return (u64)0x40000040u << 32 | (at >> 4 | 1u << 16); }

// Registers that were written are seen by what is started next.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group; waits until at most N groups are under way.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
// Makes what this thread wrote to shared memory visible to the matrix units.
DEVICE void wgmma_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// 16 bytes from global memory to an address of shared memory.
DEVICE void copy_16(u32 shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

#define SUMS_4(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define WGMMA_64(TYPE) \
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {" \
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31" \
                 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 0;" \
                 : SUMS_16(0), SUMS_16(16) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define WGMMA_96(TYPE) \
    asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32." TYPE "." TYPE " {" \
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
                 "}, {%48,%49,%50,%51}, %52, 1, 1, 1, 0;" \
                 : SUMS_16(0), SUMS_16(16), SUMS_16(32) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define WGMMA_128(TYPE) \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " {" \
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63" \
                 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 0;" \
                 : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// Starts sums += a b: 64 x N from 64 x 16 and 16 x N. Neither `a` nor `sums` may be touched before it is waited for.
template <bool IS_F16> DEVICE void wgmma(float (&sums)[32], const u32 (&a)[4], u64 b) {
    if constexpr (IS_F16) WGMMA_64("f16");
    else WGMMA_64("bf16");
}
template <bool IS_F16> DEVICE void wgmma(float (&sums)[48], const u32 (&a)[4], u64 b) {
    if constexpr (IS_F16) WGMMA_96("f16");
    else WGMMA_96("bf16");
}
template <bool IS_F16> DEVICE void wgmma(float (&sums)[64], const u32 (&a)[4], u64 b) {
    if constexpr (IS_F16) WGMMA_128("f16");
    else WGMMA_128("bf16");
}
