// Atomics, bit operations, bytes in words and vector types, by CUDA's names.
#pragma once

// --- vector types -----------------------------------------------------------------------------------------------------------

#define GGRS_SIM_VECTORS(T, name, size) \
    struct name##1 { T x; }; \
    struct __align__(2 * size) name##2 { T x, y; }; \
    struct __align__(4 * size > 16 ? 16 : 4 * size) name##4 { T x, y, z, w; }; \
    static __forceinline__ name##1 make_##name##1(T x) { return {x}; } \
    static __forceinline__ name##2 make_##name##2(T x, T y) { return {x, y}; } \
    static __forceinline__ name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define GGRS_SIM_VECTOR3(T, name) \
    struct name##3 { T x, y, z; }; \
    static __forceinline__ name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }
GGRS_SIM_VECTORS(signed char, char, 1)
GGRS_SIM_VECTORS(unsigned char, uchar, 1)
GGRS_SIM_VECTORS(short, short, 2)
GGRS_SIM_VECTORS(unsigned short, ushort, 2)
GGRS_SIM_VECTORS(int, int, 4)
GGRS_SIM_VECTORS(unsigned, uint, 4)
GGRS_SIM_VECTORS(float, float, 4)
GGRS_SIM_VECTORS(long long, longlong, 8)
GGRS_SIM_VECTORS(unsigned long long, ulonglong, 8)
GGRS_SIM_VECTORS(double, double, 8)
GGRS_SIM_VECTOR3(int, int)
GGRS_SIM_VECTOR3(float, float)
static __forceinline__ uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

// --- numbers by their bits --------------------------------------------------------------------------------------------------

template <typename To, typename From> static __forceinline__ To ggrs_sim_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}
static __forceinline__ float __int_as_float(int v) { return ggrs_sim_bits<float>(v); }
static __forceinline__ float __uint_as_float(unsigned v) { return ggrs_sim_bits<float>(v); }
static __forceinline__ int __float_as_int(float v) { return ggrs_sim_bits<int>(v); }
static __forceinline__ unsigned __float_as_uint(float v) { return ggrs_sim_bits<unsigned>(v); }
static __forceinline__ double __longlong_as_double(long long v) { return ggrs_sim_bits<double>(v); }
static __forceinline__ long long __double_as_longlong(double v) { return ggrs_sim_bits<long long>(v); }

// --- bits -------------------------------------------------------------------------------------------------------------------

static __forceinline__ int __popc(unsigned v) { return __builtin_popcount(v); }
static __forceinline__ int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static __forceinline__ int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }
static __forceinline__ int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll((unsigned long long)v); }
static __forceinline__ int __ffs(int v) { return __builtin_ffs(v); }
static __forceinline__ int __ffsll(long long v) { return __builtin_ffsll(v); }
static __forceinline__ unsigned __brev(unsigned v) {
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(v);
}
static __forceinline__ unsigned long long __brevll(unsigned long long v) {
    return (unsigned long long)__brev((unsigned)v) << 32 | __brev((unsigned)(v >> 32));
}
static __forceinline__ unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
    return (unsigned)(((unsigned long long)hi << 32 | lo) << (shift & 31) >> 32);
}
static __forceinline__ unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
    return (unsigned)(((unsigned long long)hi << 32 | lo) >> (shift & 31));
}
static __forceinline__ int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static __forceinline__ unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static __forceinline__ unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static __forceinline__ int __mul24(int a, int b) { return (a << 8 >> 8) * (b << 8 >> 8); }
static __forceinline__ unsigned __sad(int a, int b, unsigned c) { return (unsigned)(a > b ? a - b : b - a) + c; }

// --- bytes of words -----------------------------------------------------------------------------------------------------------

static __forceinline__ unsigned ggrs_sim_selected(unsigned long long bytes, unsigned selector) {
    unsigned byte = (unsigned)(bytes >> (selector & 7) * 8) & 0xff;
    return selector & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
}
static __forceinline__ unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    unsigned long long bytes = (unsigned long long)high << 32 | low;
    return ggrs_sim_selected(bytes, selector) | ggrs_sim_selected(bytes, selector >> 4) << 8 |
           ggrs_sim_selected(bytes, selector >> 8) << 16 | ggrs_sim_selected(bytes, selector >> 12) << 24;
}
typedef signed char ggrs_sim_i8x4 __attribute__((vector_size(4)));
typedef unsigned char ggrs_sim_u8x4 __attribute__((vector_size(4)));
static __forceinline__ int __dp4a(int a, int b, int sum) {
    ggrs_sim_i8x4 x = ggrs_sim_bits<ggrs_sim_i8x4>(a), y = ggrs_sim_bits<ggrs_sim_i8x4>(b);
    return (int)((unsigned)sum + (unsigned)(x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3]));
}
static __forceinline__ unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
    ggrs_sim_u8x4 x = ggrs_sim_bits<ggrs_sim_u8x4>(a), y = ggrs_sim_bits<ggrs_sim_u8x4>(b);
    return sum + (unsigned)(x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3]);
}
// Of each byte, or each 16 bits.
#define GGRS_SIM_EACH(name, T, bits, EXPRESSION) \
    static __forceinline__ unsigned name(unsigned a, unsigned b) { \
        unsigned joined = 0; \
        for (int i = 0; i < 32; i += bits) { \
            int x = (T)(a >> i), y = (T)(b >> i); \
            joined |= ((unsigned)(EXPRESSION) & (0xffffffffu >> (32 - bits))) << i; \
        } \
        return joined; \
    }
#define GGRS_SIM_CLAMPED(v, low, high) ((v) < (low) ? (low) : (v) > (high) ? (high) : (v))
GGRS_SIM_EACH(__vadd4, unsigned char, 8, x + y)
GGRS_SIM_EACH(__vsub4, unsigned char, 8, x - y)
GGRS_SIM_EACH(__vaddss4, signed char, 8, GGRS_SIM_CLAMPED(x + y, -128, 127))
GGRS_SIM_EACH(__vsubss4, signed char, 8, GGRS_SIM_CLAMPED(x - y, -128, 127))
GGRS_SIM_EACH(__vaddus4, unsigned char, 8, GGRS_SIM_CLAMPED(x + y, 0, 255))
GGRS_SIM_EACH(__vsubus4, unsigned char, 8, GGRS_SIM_CLAMPED(x - y, 0, 255))
GGRS_SIM_EACH(__vmaxs4, signed char, 8, x > y ? x : y)
GGRS_SIM_EACH(__vmins4, signed char, 8, x < y ? x : y)
GGRS_SIM_EACH(__vmaxu4, unsigned char, 8, x > y ? x : y)
GGRS_SIM_EACH(__vminu4, unsigned char, 8, x < y ? x : y)
GGRS_SIM_EACH(__vcmpeq4, unsigned char, 8, x == y ? 0xff : 0)
GGRS_SIM_EACH(__vcmpne4, unsigned char, 8, x != y ? 0xff : 0)
GGRS_SIM_EACH(__vadd2, unsigned short, 16, x + y)
GGRS_SIM_EACH(__vsub2, unsigned short, 16, x - y)

// --- loads and stores -----------------------------------------------------------------------------------------------------------

template <typename T> static __forceinline__ T __ldg(const T* at) { return *at; }
template <typename T> static __forceinline__ T __ldcg(const T* at) { return *at; }
template <typename T> static __forceinline__ T __ldcs(const T* at) { return *at; }
template <typename T> static __forceinline__ void __stcg(T* at, T value) { *at = value; }
template <typename T> static __forceinline__ void __stcs(T* at, T value) { *at = value; }

// --- atomics ----------------------------------------------------------------------------------------------------------------------

// What was there, after `EXPRESSION` of it (`was`) and `value` has taken its place.
#define GGRS_SIM_ATOMIC(name, T, EXPRESSION) \
    static __forceinline__ T name(T* at, T value) { \
        T was = *(volatile T*)at, next; \
        do { \
            next = (EXPRESSION); \
        } while (!__atomic_compare_exchange(at, &was, &next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)); \
        return was; \
    }
#define GGRS_SIM_ATOMICS(T) \
    static __forceinline__ T atomicAdd(T* at, T v) { return __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST); } \
    static __forceinline__ T atomicSub(T* at, T v) { return __atomic_fetch_sub(at, v, __ATOMIC_SEQ_CST); } \
    static __forceinline__ T atomicAnd(T* at, T v) { return __atomic_fetch_and(at, v, __ATOMIC_SEQ_CST); } \
    static __forceinline__ T atomicOr(T* at, T v) { return __atomic_fetch_or(at, v, __ATOMIC_SEQ_CST); } \
    static __forceinline__ T atomicXor(T* at, T v) { return __atomic_fetch_xor(at, v, __ATOMIC_SEQ_CST); } \
    static __forceinline__ T atomicExch(T* at, T v) { return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST); } \
    GGRS_SIM_ATOMIC(atomicMin, T, value < was ? value : was) \
    GGRS_SIM_ATOMIC(atomicMax, T, value > was ? value : was) \
    static __forceinline__ T atomicCAS(T* at, T was, T next) { \
        __atomic_compare_exchange(at, &was, &next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        return was; \
    }
GGRS_SIM_ATOMICS(int)
GGRS_SIM_ATOMICS(unsigned)
GGRS_SIM_ATOMICS(long long)
GGRS_SIM_ATOMICS(unsigned long long)
GGRS_SIM_ATOMIC(atomicAdd, float, was + value)
GGRS_SIM_ATOMIC(atomicAdd, double, was + value)
GGRS_SIM_ATOMIC(atomicInc, unsigned, was >= value ? 0 : was + 1)
GGRS_SIM_ATOMIC(atomicDec, unsigned, was == 0 || was > value ? value : was - 1)
static __forceinline__ float atomicExch(float* at, float v) {
    return __uint_as_float(__atomic_exchange_n((unsigned*)at, __float_as_uint(v), __ATOMIC_SEQ_CST));
}
#define atomicAdd_system atomicAdd
#define atomicExch_system atomicExch
#define atomicCAS_system atomicCAS
#define atomicAdd_block atomicAdd
