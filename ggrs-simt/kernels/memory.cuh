// Loads of 16 bytes: ordinary ones, and those of weights, which nothing writes while kernels run and which are read
// once.

#include "prelude.cuh"

struct __attribute__((aligned(16))) Quad {
    u32 x[4];
};

DEVICE Quad load_quad(const void* at) { return *(const Quad*)at; }

#if defined(GGRS_SIM) || defined(__HIP_PLATFORM_AMD__)
DEVICE Quad stream_quad(const void* at) { return load_quad(at); }
DEVICE u32 stream_u32(const void* at) { return *(const u32*)at; }
DEVICE u32 stream_u16(const void* at) { return *(const u16*)at; }
DEVICE u32 stream_u8(const void* at) { return *(const u8*)at; }
#else
// Volatile, and ordinary loads: `ld.global.nc` would be moved behind a WAIT that it is written before.
DEVICE Quad stream_quad(const void* at) {
    Quad q;
    asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(q.x[0]), "=r"(q.x[1]), "=r"(q.x[2]), "=r"(q.x[3]) : "l"(at));
    return q;
}
DEVICE u32 stream_u32(const void* at) {
    u32 v;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(at));
    return v;
}
DEVICE u32 stream_u16(const void* at) {
    u16 v;
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(at));
    return v;
}
DEVICE u32 stream_u8(const void* at) {
    u32 v;
    asm volatile("ld.global.u8 %0, [%1];" : "=r"(v) : "l"(at));
    return v;
}
#endif

// A value that is worth a register: the compiler would rather compute it again each time.
#if defined(GGRS_SIM)
#define KEEP(value)
#else
#define KEEP(value) asm volatile("" : "+r"(value))
#endif
