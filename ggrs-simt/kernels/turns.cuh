// Angles as whole numbers of 2^-64 turns: a position times a frequency wraps around by itself, exactly, however far the
// position is, and without F64.

#include "prelude.cuh"

// Sine and cosine of an angle in 2^-64 turns: of the rest behind the nearest quarter, of at most an eighth, by their
// series.
DEVICE void sine_and_cosine(u64 angle, float& sine, float& cosine) {
    u32 quarter = (u32)((angle + (1ULL << 61)) >> 62);
    i32 rest = (i32)(u32)((angle - ((u64)quarter << 62)) >> 32);
    float x = (float)rest * 1.4629180792671596e-9f, square = x * x;
    float s = square * 2.7557319e-6f - 1.9841270e-4f;
    s = s * square + 8.3333333e-3f;
    s = s * square - 1.6666667e-1f;
    s = x + x * square * s;
    float c = square * -2.7557319e-7f + 2.4801587e-5f;
    c = c * square - 1.3888889e-3f;
    c = c * square + 4.1666667e-2f;
    c = c * square - 0.5f;
    c = 1.0f + square * c;
    bool is_swapped = quarter & 1;
    float of_sine = is_swapped ? c : s, of_cosine = is_swapped ? s : c;
    sine = quarter & 2 ? -of_sine : of_sine;
    cosine = (quarter + 1) & 2 ? -of_cosine : of_cosine;
}

// Turns of which only the part behind the point matters.
DEVICE u64 wrapped(double turns) { return (u64)((turns - floor(turns)) * 18446744073709551616.0); }
