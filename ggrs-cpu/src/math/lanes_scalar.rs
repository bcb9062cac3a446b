//! [`Lanes`] in portable Rust: eight lanes in an array, which compilers turn into what the processor has.

use half::{bf16, f16};

use super::lanes::Lanes;

/// Portable lanes.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

const N: usize = 8;

/// Applies an expression to every lane.
macro_rules! lanes {
    (|$($x:ident),+| $value:expr) => {{
        let mut out = [0.0_f32; N];
        for (i, o) in out.iter_mut().enumerate() {
            $(let $x = $x[i];)+
            *o = $value;
        }
        out
    }};
}

/// Fills lanes from the values of a slice.
macro_rules! fill {
    ($from:ident, |$x:ident| $value:expr) => {{
        let mut out = [0.0_f32; N];
        for (o, $x) in out.iter_mut().zip($from) {
            *o = $value;
        }
        out
    }};
}

impl Lanes for Scalar {
    type Floats = [f32; N];
    type Square = [[f32; N]; N];
    const N: usize = N;
    const TILE_ROWS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; N] {
        match from.first_chunk::<N>() {
            Some(all) => *all,
            None => fill!(from, |x| *x),
        }
    }

    #[inline(always)]
    fn store(self, x: [f32; N], to: &mut [f32]) {
        match to.first_chunk_mut::<N>() {
            Some(all) => *all = x,
            None => {
                for (t, x) in to.iter_mut().zip(x) {
                    *t = x;
                }
            }
        }
    }

    #[inline(always)]
    fn load_f32_bytes(self, from: &[[u8; 4]]) -> [f32; N] {
        fill!(from, |x| f32::from_le_bytes(*x))
    }

    #[inline(always)]
    fn splat_f16(self, x: [u8; 2]) -> [f32; N] {
        [f16::from_le_bytes(x).to_f32(); N]
    }

    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]]) -> [f32; N] {
        fill!(from, |x| f16::from_le_bytes(*x).to_f32())
    }

    #[inline(always)]
    fn load_i8(self, from: &[u8]) -> [f32; N] {
        fill!(from, |x| f32::from(x.cast_signed()))
    }

    #[inline(always)]
    fn load_low_nibbles(self, from: &[u8]) -> [f32; N] {
        fill!(from, |x| f32::from(x & 15))
    }

    #[inline(always)]
    fn load_high_nibbles(self, from: &[u8]) -> [f32; N] {
        fill!(from, |x| f32::from(x >> 4))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]]) -> [f32; N] {
        fill!(from, |x| bf16::from_le_bytes(*x).to_f32())
    }

    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        lanes!(|a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        lanes!(|a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        lanes!(|a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        lanes!(|a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        lanes!(|a, b, c| a * b + c)
    }

    #[inline(always)]
    fn min(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        lanes!(|a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        lanes!(|a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn sqrt(self, x: [f32; N]) -> [f32; N] {
        lanes!(|x| x.sqrt())
    }

    #[inline(always)]
    fn abs(self, x: [f32; N]) -> [f32; N] {
        lanes!(|x| x.abs())
    }

    #[inline(always)]
    fn if_less(self, a: [f32; N], b: [f32; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        lanes!(|a, b, yes, no| if a < b { yes } else { no })
    }

    #[inline(always)]
    fn scale_by_power(self, x: [f32; N], n: [f32; N]) -> [f32; N] {
        lanes!(|x, n| {
            // 2^n in two factors, each of which is a normal number; a NaN n becomes 0 and leaves x to say it.
            let n = n as i32;
            let (half, rest) = (n >> 1, n - (n >> 1));
            let power = |n: i32| f32::from_bits((n + 127).clamp(1, 254).cast_unsigned() << 23);
            x * power(half) * power(rest)
        })
    }

    #[inline(always)]
    fn total(self, x: [f32; N]) -> f32 {
        let [a, b, c, d, e, f, g, h] = x;
        ((a + e) + (b + f)) + ((c + g) + (d + h))
    }

    #[inline(always)]
    fn largest(self, x: [f32; N]) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn square(self) -> [[f32; N]; N] {
        [[0.0; N]; N]
    }

    #[inline(always)]
    fn transpose(self, square: [[f32; N]; N]) -> [[f32; N]; N] {
        let mut out = self.square();
        for (i, row) in square.iter().enumerate() {
            for (column, x) in out.iter_mut().zip(row) {
                column[i] = *x;
            }
        }
        out
    }
}
