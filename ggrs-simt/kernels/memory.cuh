// Loads of 16 bytes: ordinary ones, and those of weights, which nothing writes while kernels run and which are read once.

#include "prelude.cuh"

struct __attribute__((aligned(16))) Quad {
    u32 x[4];
};

DEVICE Quad load_quad(const void* at) { return *(const Quad*)at; }
DEVICE u32 load_u32(const void* at) { return *(const u32*)at; }
DEVICE u32 load_u16(const void* at) { return *(const u16*)at; }

#if defined(GGRS_SIM) || defined(__HIP_PLATFORM_AMD__)
DEVICE Quad stream_quad(const void* at) { return load_quad(at); }
#else
DEVICE Quad stream_quad(const void* at) {
    Quad q;
    asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(q.x[0]), "=r"(q.x[1]), "=r"(q.x[2]), "=r"(q.x[3]) : "l"(at));
    return q;
}
#endif
