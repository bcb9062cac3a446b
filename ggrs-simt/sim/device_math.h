// Functions of numbers, by CUDA's names.
#pragma once

extern "C" {
#define GGRS_SIM_OF_ONE(name) double name(double) noexcept; float name##f(float) noexcept;
#define GGRS_SIM_OF_TWO(name) double name(double, double) noexcept; float name##f(float, float) noexcept;
GGRS_SIM_OF_ONE(exp) GGRS_SIM_OF_ONE(exp2) GGRS_SIM_OF_ONE(exp10) GGRS_SIM_OF_ONE(expm1)
GGRS_SIM_OF_ONE(log) GGRS_SIM_OF_ONE(log2) GGRS_SIM_OF_ONE(log10) GGRS_SIM_OF_ONE(log1p)
GGRS_SIM_OF_ONE(sin) GGRS_SIM_OF_ONE(cos) GGRS_SIM_OF_ONE(tan)
GGRS_SIM_OF_ONE(asin) GGRS_SIM_OF_ONE(acos) GGRS_SIM_OF_ONE(atan)
GGRS_SIM_OF_ONE(sinh) GGRS_SIM_OF_ONE(cosh) GGRS_SIM_OF_ONE(tanh)
GGRS_SIM_OF_ONE(erf) GGRS_SIM_OF_ONE(erfc) GGRS_SIM_OF_ONE(cbrt)
GGRS_SIM_OF_ONE(tgamma) GGRS_SIM_OF_ONE(lgamma)
GGRS_SIM_OF_TWO(pow) GGRS_SIM_OF_TWO(atan2) GGRS_SIM_OF_TWO(fmod) GGRS_SIM_OF_TWO(hypot) GGRS_SIM_OF_TWO(remainder)
double ldexp(double, int) noexcept;
float ldexpf(float, int) noexcept;
double frexp(double, int*) noexcept;
float frexpf(float, int*) noexcept;
void sincosf(float, float*, float*) noexcept;
void sincos(double, double*, double*) noexcept;
#undef GGRS_SIM_OF_ONE
#undef GGRS_SIM_OF_TWO
}

// Those that the processor has instructions for.
#define GGRS_SIM_BUILT_IN(name) \
    static __forceinline__ float name##f(float x) { return __builtin_##name##f(x); } \
    static __forceinline__ double name(double x) { return __builtin_##name(x); } \
    static __forceinline__ float name(float x) { return __builtin_##name##f(x); }
GGRS_SIM_BUILT_IN(sqrt)
GGRS_SIM_BUILT_IN(fabs)
GGRS_SIM_BUILT_IN(floor)
GGRS_SIM_BUILT_IN(ceil)
GGRS_SIM_BUILT_IN(trunc)
GGRS_SIM_BUILT_IN(rint)
GGRS_SIM_BUILT_IN(round)
#undef GGRS_SIM_BUILT_IN
static __forceinline__ float nearbyintf(float x) { return __builtin_rintf(x); }
static __forceinline__ double nearbyint(double x) { return __builtin_rint(x); }
static __forceinline__ float copysignf(float x, float sign) { return __builtin_copysignf(x, sign); }
static __forceinline__ double copysign(double x, double sign) { return __builtin_copysign(x, sign); }
static __forceinline__ float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static __forceinline__ double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
static __forceinline__ float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// Of a NaN and a number, the number.
#define GGRS_SIM_EXTREMES(T, smaller, larger) \
    static __forceinline__ T smaller(T a, T b) { return a < b || b != b ? a : b; } \
    static __forceinline__ T larger(T a, T b) { return a > b || b != b ? a : b; }
GGRS_SIM_EXTREMES(float, fminf, fmaxf)
GGRS_SIM_EXTREMES(float, fmin, fmax)
GGRS_SIM_EXTREMES(double, fmin, fmax)
GGRS_SIM_EXTREMES(float, min, max)
GGRS_SIM_EXTREMES(double, min, max)
#undef GGRS_SIM_EXTREMES
#define GGRS_SIM_EXTREMES(A, B, T) \
    static __forceinline__ T min(A a, B b) { return (T)a < (T)b ? (T)a : (T)b; } \
    static __forceinline__ T max(A a, B b) { return (T)a > (T)b ? (T)a : (T)b; }
GGRS_SIM_EXTREMES(int, int, int)
GGRS_SIM_EXTREMES(unsigned, unsigned, unsigned)
GGRS_SIM_EXTREMES(int, unsigned, unsigned)
GGRS_SIM_EXTREMES(unsigned, int, unsigned)
GGRS_SIM_EXTREMES(long, long, long)
GGRS_SIM_EXTREMES(unsigned long, unsigned long, unsigned long)
GGRS_SIM_EXTREMES(long long, long long, long long)
GGRS_SIM_EXTREMES(unsigned long long, unsigned long long, unsigned long long)
#undef GGRS_SIM_EXTREMES
static __forceinline__ int abs(int v) { return v < 0 ? -v : v; }
static __forceinline__ long long abs(long long v) { return v < 0 ? -v : v; }
static __forceinline__ long long llabs(long long v) { return v < 0 ? -v : v; }
static __forceinline__ float abs(float v) { return __builtin_fabsf(v); }
static __forceinline__ double abs(double v) { return __builtin_fabs(v); }

// Those that a call by the bare name means for F32.
#define GGRS_SIM_FOR_F32(name) static __forceinline__ float name(float x) { return name##f(x); }
GGRS_SIM_FOR_F32(exp) GGRS_SIM_FOR_F32(exp2) GGRS_SIM_FOR_F32(expm1) GGRS_SIM_FOR_F32(log) GGRS_SIM_FOR_F32(log2)
GGRS_SIM_FOR_F32(log1p) GGRS_SIM_FOR_F32(sin) GGRS_SIM_FOR_F32(cos) GGRS_SIM_FOR_F32(tanh) GGRS_SIM_FOR_F32(erf)
#undef GGRS_SIM_FOR_F32
static __forceinline__ float pow(float x, float y) { return powf(x, y); }
static __forceinline__ float fmod(float x, float y) { return fmodf(x, y); }

static __forceinline__ bool isnan(float x) { return x != x; }
static __forceinline__ bool isnan(double x) { return x != x; }
static __forceinline__ bool isinf(float x) { return __builtin_isinf(x); }
static __forceinline__ bool isinf(double x) { return __builtin_isinf(x); }
static __forceinline__ bool isfinite(float x) { return __builtin_isfinite(x); }
static __forceinline__ bool isfinite(double x) { return __builtin_isfinite(x); }
static __forceinline__ bool signbit(float x) { return __builtin_signbitf(x); }
static __forceinline__ bool signbit(double x) { return __builtin_signbit(x); }

static __forceinline__ float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
static __forceinline__ double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
static __forceinline__ float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// The quick ones are as exact as the others here.
static __forceinline__ float __expf(float x) { return expf(x); }
static __forceinline__ float __exp10f(float x) { return exp10f(x); }
static __forceinline__ float __logf(float x) { return logf(x); }
static __forceinline__ float __log2f(float x) { return log2f(x); }
static __forceinline__ float __log10f(float x) { return log10f(x); }
static __forceinline__ float __sinf(float x) { return sinf(x); }
static __forceinline__ float __cosf(float x) { return cosf(x); }
static __forceinline__ float __tanf(float x) { return tanf(x); }
static __forceinline__ void __sincosf(float x, float* sin, float* cos) { sincosf(x, sin, cos); }
static __forceinline__ float __powf(float x, float y) { return powf(x, y); }
static __forceinline__ float __fdividef(float x, float y) { return x / y; }

// Operations that are never joined with their neighbours.
#define GGRS_SIM_ALONE(T, name, EXPRESSION) \
    static __forceinline__ T name(T a, T b) { \
        T result = EXPRESSION; \
        asm("" : "+x"(result)); \
        return result; \
    }
GGRS_SIM_ALONE(float, __fadd_rn, a + b)
GGRS_SIM_ALONE(float, __fsub_rn, a - b)
GGRS_SIM_ALONE(float, __fmul_rn, a * b)
GGRS_SIM_ALONE(float, __fdiv_rn, a / b)
GGRS_SIM_ALONE(double, __dadd_rn, a + b)
GGRS_SIM_ALONE(double, __dsub_rn, a - b)
GGRS_SIM_ALONE(double, __dmul_rn, a * b)
GGRS_SIM_ALONE(double, __ddiv_rn, a / b)
#undef GGRS_SIM_ALONE
static __forceinline__ float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static __forceinline__ double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static __forceinline__ float __frcp_rn(float x) { return 1.0f / x; }
static __forceinline__ float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
static __forceinline__ float __frsqrt_rn(float x) { return 1.0f / __builtin_sqrtf(x); }

// To integers: those out of range and NaN as CUDA has them.
#define GGRS_SIM_TO_INTEGER(name, From, T, ROUNDED, low, high, beyond) \
    static __forceinline__ T name(From x) { \
        From r = ROUNDED; \
        return r != r ? 0 : r < (From)(low) ? (low) : r >= (From)(beyond) ? (high) : (T)r; \
    }
#define GGRS_SIM_I32_MIN (-2147483647 - 1)
GGRS_SIM_TO_INTEGER(__float2int_rn, float, int, __builtin_rintf(x), GGRS_SIM_I32_MIN, 2147483647, 2147483648.0f)
GGRS_SIM_TO_INTEGER(__float2int_rz, float, int, __builtin_truncf(x), GGRS_SIM_I32_MIN, 2147483647, 2147483648.0f)
GGRS_SIM_TO_INTEGER(__float2int_rd, float, int, __builtin_floorf(x), GGRS_SIM_I32_MIN, 2147483647, 2147483648.0f)
GGRS_SIM_TO_INTEGER(__float2int_ru, float, int, __builtin_ceilf(x), GGRS_SIM_I32_MIN, 2147483647, 2147483648.0f)
GGRS_SIM_TO_INTEGER(__float2uint_rn, float, unsigned, __builtin_rintf(x), 0u, 4294967295u, 4294967296.0f)
GGRS_SIM_TO_INTEGER(__float2uint_rz, float, unsigned, __builtin_truncf(x), 0u, 4294967295u, 4294967296.0f)
GGRS_SIM_TO_INTEGER(__double2int_rn, double, int, __builtin_rint(x), GGRS_SIM_I32_MIN, 2147483647, 2147483648.0)
static __forceinline__ float __int2float_rn(int x) { return (float)x; }
static __forceinline__ float __uint2float_rn(unsigned x) { return (float)x; }
static __forceinline__ float __double2float_rn(double x) { return (float)x; }
static __forceinline__ int lrintf(float x) { return __float2int_rn(x); }
