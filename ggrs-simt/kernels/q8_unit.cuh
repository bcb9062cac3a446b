// Weights of block formats in planes as what `__dp4a` multiplies. A *unit* is what a lane reads of a row at once: 16 or
// 32 bytes of quants with what belongs to them. It is 2 or 4 *parts* of 16 neighbouring elements; each, or two together,
// have a factor and, in formats that have one, a minimum.
//
// Element `e` of part `i` of unit `u` is `unit_start(u) + i * part_step + e`. A unit's place in its block is `c`; lanes
// that go by multiples of the block's units keep theirs.

#include "formats.cuh"
#include "memory.cuh"

// Bytes of field `plane` of a block, as `fields` of planes.rs lists them.
DEVICE constexpr int plane_bytes(int format, int plane) {
    constexpr int NONE = 0;
    switch (format) {
        case Q4_0: case IQ4_NL: return plane == 0 ? 16 : plane == 1 ? 2 : NONE;
        case Q4_1: return plane == 0 ? 16 : plane == 1 ? 4 : NONE;
        case Q5_0: return plane == 0 ? 16 : plane == 1 ? 4 : plane == 2 ? 2 : NONE;
        case Q5_1: return plane == 0 ? 16 : plane == 1 ? 4 : plane == 2 ? 4 : NONE;
        case Q8_0: return plane == 0 ? 32 : plane == 1 ? 2 : NONE;
        case Q2_K: return plane == 0 ? 64 : plane == 1 ? 16 : plane == 2 ? 4 : NONE;
        case Q3_K: return plane == 0 ? 64 : plane == 1 ? 32 : plane == 2 ? 12 : 2;
        case Q4_K: return plane == 0 ? 128 : plane == 1 ? 16 : NONE;
        case Q5_K: return plane == 0 ? 128 : plane == 1 ? 32 : plane == 2 ? 16 : NONE;
        case Q6_K: return plane == 0 ? 128 : plane == 1 ? 64 : plane == 2 ? 16 : 2;
        case IQ4_XS: return plane == 0 ? 128 : plane == 1 ? 8 : NONE;
        case MXFP4: return plane == 0 ? 16 : plane == 1 ? 1 : NONE;
        // Scalars are blocks of one element.
        default: return plane != 0 ? NONE : format == F32 ? 4 : 2;
    }
}

DEVICE constexpr int unit_elems(int format) {
    switch (format) {
        case F32: return 4;
        case F16: case BF16: return 8;
        case Q2_K: case Q3_K: case Q4_K: case Q5_K: return 64;
        default: return 32;
    }
}
// Bytes of quants, scalars among them.
DEVICE constexpr int unit_bytes(int format) { return format == Q8_0 || format == Q4_K || format == Q5_K ? 32 : 16; }
DEVICE constexpr int units_per_block(int format) {
    return is_block(format) ? block_elems(format) / unit_elems(format) : 1;
}
DEVICE constexpr int unit_parts(int format) { return unit_elems(format) / 16; }
DEVICE constexpr int part_step(int format) {
    return format == Q6_K ? 64 : format == Q2_K || format == Q3_K ? 32 : 16;
}
// Two parts are the same group of 32: one factor, one minimum, one scale of the activations.
DEVICE constexpr bool is_joined(int format) { return part_step(format) == 16; }
// Factors of a unit.
DEVICE constexpr int unit_factors(int format) { return is_joined(format) ? unit_parts(format) / 2 : unit_parts(format); }
// Units of a row in flight: as many as keep the memory busy without taking registers from other warps.
DEVICE constexpr int units_in_flight(int format) {
    switch (format) {
        case Q2_K: case Q3_K: return 1;
        case Q5_K: case Q8_0: case IQ4_NL: case IQ4_XS: case MXFP4: return 2;
        case Q6_K: return 3;
        default: return 4;
    }
}
// Has each part a minimum of its own, or each group of 32?
DEVICE constexpr bool has_part_minimums(int format) { return format == Q2_K; }
DEVICE constexpr bool has_minimums(int format) {
    return format == Q4_K || format == Q5_K || format == Q4_0 || format == Q4_1 || format == Q5_0 || format == Q5_1;
}

// A row of blocks in planes, all lying one behind the other; or from where on a lane reads it.
struct Row {
    const u8* at[4];
};
template <int FORMAT> DEVICE Row row_at(const Planes& p, i64 block) {
    Row row;
#pragma unroll
    for (int i = 0; i < 4; i++) row.at[i] = p.start[i] + block * plane_bytes(FORMAT, i);
    return row;
}

// Where unit `u` of a row is read.
template <int FORMAT> DEVICE Row unit_at(const Row& row, u32 u) {
    u32 b = u / units_per_block(FORMAT), c = u % units_per_block(FORMAT);
    Row unit;
    unit.at[0] = row.at[0] + u * unit_bytes(FORMAT);
#pragma unroll
    for (int i = 1; i < 4; i++) unit.at[i] = row.at[i] + b * plane_bytes(FORMAT, i);
    if constexpr (FORMAT == Q3_K) unit.at[1] += (c & 1) * 16;
    if constexpr (FORMAT == Q6_K) unit.at[1] += (c >> 2) * 32 + (c & 1) * 16;
    if constexpr (FORMAT == Q6_K) unit.at[2] += (c >> 2) * 8 + (c & 3);
    if constexpr (FORMAT == Q2_K) unit.at[1] += (c >> 1) * 8;
    return unit;
}
// Moves on by so many units, a multiple of the block's.
template <int FORMAT> DEVICE void move_on(Row& unit, u32 units) {
    unit.at[0] += units * unit_bytes(FORMAT);
#pragma unroll
    for (int i = 1; i < 4; i++) unit.at[i] += units / units_per_block(FORMAT) * plane_bytes(FORMAT, i);
}

// As read: quants, upper bits, scales. What a format does not have takes no registers.
struct Unit {
    Quad q, q2, h, h2;
    u32 s[4];
};

template <int FORMAT> DEVICE Unit load_unit(const Row& at) {
    const u8* const* p = at.at;
    Unit unit;
    unit.q = stream_quad(p[0]);
    if constexpr (unit_bytes(FORMAT) == 32) unit.q2 = stream_quad(p[0] + 16);
    if constexpr (FORMAT == Q8_0 || FORMAT == Q4_0 || FORMAT == IQ4_NL) {
        unit.s[0] = stream_u16(p[1]);
    } else if constexpr (FORMAT == Q4_1) {
        unit.s[0] = stream_u32(p[1]);
    } else if constexpr (FORMAT == Q5_0) {
        unit.h.x[0] = stream_u32(p[1]);
        unit.s[0] = stream_u16(p[2]);
    } else if constexpr (FORMAT == Q5_1) {
        unit.h.x[0] = stream_u32(p[1]);
        unit.s[0] = stream_u32(p[2]);
    } else if constexpr (FORMAT == MXFP4) {
        unit.s[0] = stream_u8(p[1]);
    } else if constexpr (FORMAT == Q4_K || FORMAT == Q5_K) {
        if constexpr (FORMAT == Q5_K) {
            unit.h = stream_quad(p[1]);
            unit.h2 = stream_quad(p[1] + 16);
        }
        Quad head = stream_quad(p[FORMAT == Q5_K ? 2 : 1]);
#pragma unroll
        for (int i = 0; i < 4; i++) unit.s[i] = head.x[i];
    } else if constexpr (FORMAT == Q6_K) {
        unit.h = stream_quad(p[1]);
        unit.s[0] = stream_u8(p[2]);
        unit.s[1] = stream_u8(p[2] + 4);
        unit.s[2] = stream_u16(p[3]);
    } else if constexpr (FORMAT == IQ4_XS) {
        unit.s[0] = stream_u32(p[1]);
        unit.s[1] = stream_u32(p[1] + 4);
    } else if constexpr (FORMAT == Q2_K) {
        unit.s[0] = stream_u32(p[1]);
        unit.s[1] = stream_u32(p[1] + 4);
        unit.s[2] = stream_u32(p[2]);
    } else if constexpr (FORMAT == Q3_K) {
        unit.h = stream_quad(p[1]);
#pragma unroll
        for (int i = 0; i < 3; i++) unit.s[i] = stream_u32(p[2] + i * 4);
        unit.s[3] = stream_u16(p[3]);
    }
    return unit;
}

// First element of a unit's first part, counted from the row's start.
template <int FORMAT> DEVICE u32 unit_start(u32 u) {
    u32 c = u % units_per_block(FORMAT);
    if constexpr (FORMAT == Q6_K) return (u - c) * 32 + (c >> 2) * 128 + (c & 3) * 16;
    if constexpr (FORMAT == Q2_K || FORMAT == Q3_K) return (u - c) * 64 + (c >> 1) * 128 + (c & 1) * 16;
    return u * unit_elems(FORMAT);
}

// What a unit multiplies: signed bytes, and the factors of dot products and of the activations' sums. Those are sums of
// 16 elements where `has_part_minimums`, else of a group of 32.
template <int FORMAT> struct Factors {
    u32 w[unit_parts(FORMAT)][4];
    float scale[unit_factors(FORMAT)];
    float minimum[unit_factors(FORMAT)];
};

DEVICE float low_half(u32 halves) { return f16_to_f32((u16)halves); }
DEVICE float high_half(u32 halves) { return f16_to_f32((u16)(halves >> 16)); }
// Four bytes minus `offset` each, which must not be more than 128; the bytes are below 128.
DEVICE u32 minus(u32 bytes, u32 offset) { return ((bytes | 0x80808080u) - offset) ^ 0x80808080u; }

// Four bits to the fifth bit of four bytes.
DEVICE u32 spread_to_fifth(u32 bits) { return (bits & 15) * 0x02040810u & 0x10101010u; }

// Eight codes of four bits to the values of a table of 16 bytes: those of the low halves of bytes, and of the high
// ones.
DEVICE void look_up(u32 codes, u64 low_values, u64 high_values, u32& low, u32& high) {
    u32 v[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 four = codes >> 16 * half;
        u32 below = __byte_perm((u32)low_values, (u32)(low_values >> 32), four & 0x7777);
        u32 above = __byte_perm((u32)high_values, (u32)(high_values >> 32), four & 0x7777);
        v[half] = __byte_perm(below, above, 0x3210 | (four >> 1 & 0x4444));
    }
    low = __byte_perm(v[0], v[1], 0x6420);
    high = __byte_perm(v[0], v[1], 0x7531);
}

// What a lane needs again for each of its units: of Q4_K and Q5_K, where its two groups' scales and minimums lie.
// Groups from the fourth on have their upper two bits in the spare ones of the first; no branch for it.
struct Place {
    u32 c, shift, upper, of_first, of_third;
};
template <int FORMAT> DEVICE Place place_of(u32 lane) {
    Place place;
    place.c = lane % units_per_block(FORMAT);
    if constexpr (FORMAT == Q4_K || FORMAT == Q5_K) {
        bool is_split = place.c >= 2;
        place.shift = (place.c & 1) * 16;
        place.upper = place.shift + (is_split ? 2 : 0);
        place.of_first = is_split ? 0x3030 : 0x3f3f;
        place.of_third = is_split ? 0x0f0f : 0;
        KEEP(place.shift);
        KEEP(place.upper);
        KEEP(place.of_first);
        KEEP(place.of_third);
    }
    return place;
}

template <int FORMAT> DEVICE Factors<FORMAT> factors_of(const Unit& unit, const Place& place) {
    u32 c = place.c;
    Factors<FORMAT> f;
    const u32* q = unit.q.x;
    const u32* s = unit.s;
    if constexpr (FORMAT == Q8_0) {
        f.scale[0] = low_half(s[0]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            f.w[0][i] = q[i];
            f.w[1][i] = unit.q2.x[i];
        }
    } else if constexpr (FORMAT == IQ4_NL || FORMAT == IQ4_XS || FORMAT == MXFP4) {
        constexpr u64 LOW = FORMAT == MXFP4 ? E2M1_LOW : IQ4_LOW, HIGH = FORMAT == MXFP4 ? E2M1_HIGH : IQ4_HIGH;
        if (FORMAT == MXFP4) {
            f.scale[0] = e8m0_half((int)s[0]);
        } else if (FORMAT == IQ4_NL) {
            f.scale[0] = low_half(s[0]);
        } else {
            int scale = (int)((s[1] >> 4 * c & 15) | (s[0] >> (16 + 2 * c) & 3) << 4) - 32;
            f.scale[0] = low_half(s[0]) * (float)scale;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) look_up(q[i], LOW, HIGH, f.w[0][i], f.w[1][i]);
    } else if constexpr (FORMAT == Q2_K || FORMAT == Q3_K) {
        int half = c >> 1, odd = c & 1;
#pragma unroll
        for (int part = 0; part < 4; part++) {
            u32 byte = s[part >> 1] >> ((part & 1) * 16 + odd * 8);
            if constexpr (FORMAT == Q2_K) {
                f.scale[part] = low_half(s[2]) * (float)(byte & 15);
                f.minimum[part] = -high_half(s[2]) * (float)(byte >> 4 & 15);
            } else {
                u32 upper = s[2] >> ((part & 1) * 16 + odd * 8) >> (half * 4 + (part >> 1) * 2);
                f.scale[part] = low_half(s[3]) * (float)((int)((byte >> 4 * half & 15) | (upper & 3) << 4) - 32);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 two = q[i] >> 2 * part & 0x03030303u;
                if constexpr (FORMAT == Q2_K) {
                    f.w[part][i] = two;
                } else {
                    u32 third = unit.h.x[i] >> (4 * half + part) << 2 & 0x04040404u;
                    f.w[part][i] = minus(two | third, 0x04040404u);
                }
            }
        }
    } else if constexpr (FORMAT == Q4_K || FORMAT == Q5_K) {
        // A group is the lower halves of both quads, the next one the upper ones.
#pragma unroll
        for (int i = 0; i < 8; i++) {
            u32 eight = i < 4 ? q[i] : unit.q2.x[i - 4];
            u32 low = eight & 0x0f0f0f0fu, high = eight >> 4 & 0x0f0f0f0fu;
            if constexpr (FORMAT == Q5_K) {
                u32 fifths = (i < 4 ? unit.h.x[i] : unit.h2.x[i - 4]) >> 2 * c;
                low |= fifths << 4 & 0x10101010u;
                high |= fifths << 3 & 0x10101010u;
            }
            f.w[i / 4][i % 4] = low;
            f.w[2 + i / 4][i % 4] = high;
        }
        u32 third = s[3] >> place.shift;
        u32 scales = (s[1] >> place.upper & place.of_first) | (third & place.of_third);
        u32 minimums = (s[2] >> place.upper & place.of_first) | (third >> 4 & place.of_third);
        float d = low_half(s[0]), d_min = -high_half(s[0]);
        f.scale[0] = d * (float)(scales & 63);
        f.scale[1] = d * (float)(scales >> 8);
        f.minimum[0] = d_min * (float)(minimums & 63);
        f.minimum[1] = d_min * (float)(minimums >> 8);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            f.w[0][i] = q[i] & 0x0f0f0f0fu;
            f.w[1][i] = q[i] >> 4 & 0x0f0f0f0fu;
            if constexpr (FORMAT == Q5_0 || FORMAT == Q5_1) {
                f.w[0][i] |= spread_to_fifth(unit.h.x[0] >> 4 * i);
                f.w[1][i] |= spread_to_fifth(unit.h.x[0] >> (16 + 4 * i));
            } else if constexpr (FORMAT == Q6_K) {
                u32 upper = unit.h.x[i] >> (c & 2);
                f.w[0][i] = minus(f.w[0][i] | (upper << 4 & 0x30303030u), 0x20202020u);
                f.w[1][i] = minus(f.w[1][i] | (upper & 0x30303030u), 0x20202020u);
            }
        }
        if constexpr (FORMAT == Q6_K) {
            float d = low_half(s[2]);
            f.scale[0] = d * (float)(i8)s[0];
            f.scale[1] = d * (float)(i8)s[1];
        } else {
            f.scale[0] = low_half(s[0]);
            if constexpr (FORMAT == Q4_1 || FORMAT == Q5_1) f.minimum[0] = high_half(s[0]);
            else f.minimum[0] = f.scale[0] * (FORMAT == Q4_0 ? -8.0f : -16.0f);
        }
    }
    return f;
}
