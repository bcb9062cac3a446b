//! The exponential and the functions made of it, lane by lane.
//!
//! Polynomials are interpolations at Chebyshev nodes made for these files; the error named at each is relative and of
//! the formula alone, beside the F32 roundings.

use super::lanes::Lanes;

/// `((c[n] x + c[n-1]) x + ..) x + c[0]`.
#[inline(always)]
fn polynomial<L: Lanes, const C: usize>(lanes: L, x: L::Floats, c: [f32; C]) -> L::Floats {
    let mut y = lanes.splat(0.0);
    for &c in c.iter().rev() {
        y = lanes.mul_add(y, x, lanes.splat(c));
    }
    y
}

/// `e^x`: infinity above 88.73, gradual underflow to 0 below -87.3, NaN for NaN.
///
/// `e^x = 2^n e^r` with `|r| <= ln(2) / 2`; the polynomial's error is 1e-8.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats {
    // Added and subtracted, it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    // ln(2) in two parts, the first of few bits so that its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Beyond the limits the result is 0 or infinite. Limits first: a NaN in the second operand stays.
    let x = lanes.max(lanes.splat(-104.0), lanes.min(lanes.splat(89.0), x));
    let round = lanes.splat(ROUND);
    let n = lanes.sub(
        lanes.mul_add(x, lanes.splat(std::f32::consts::LOG2_E), round),
        round,
    );
    let r = lanes.mul_add(n, lanes.splat(-LN_2_HIGH), x);
    let r = lanes.mul_add(n, lanes.splat(-LN_2_LOW), r);
    let p = polynomial(
        lanes,
        r,
        [
            0.5,
            0.166_665_77,
            0.041_666_556,
            8.363_195e-3,
            1.392_620_3e-3,
        ],
    );
    let e = lanes.add(lanes.mul_add(lanes.mul(r, r), p, r), lanes.splat(1.0));
    lanes.scale_by_power(e, n)
}

/// `-x`, zeros included.
#[inline(always)]
pub(super) fn negate<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats {
    lanes.mul(x, lanes.splat(-1.0))
}

/// `1 / (1 + e^-x)`, with its full relative precision on both sides.
#[inline(always)]
pub(super) fn sigmoid<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats {
    let one = lanes.splat(1.0);
    let e = exp(lanes, negate(lanes, lanes.abs(x)));
    let numerator = lanes.if_less(x, lanes.splat(0.0), e, one);
    lanes.div(numerator, lanes.add(one, e))
}

/// `tanh x`: a polynomial near 0 (error 2e-8), `1 - 2 / (e^2x + 1)` elsewhere.
#[inline(always)]
pub(crate) fn tanh<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats {
    let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
    let size = lanes.abs(x);
    let z = lanes.mul(x, x);
    let p = polynomial(
        lanes,
        z,
        [
            -0.333_333_3,
            0.133_327_7,
            -0.053_850_91,
            0.020_997_18,
            -6.096_714e-3,
        ],
    );
    let near = lanes.mul_add(lanes.mul(x, z), p, x);
    let e = exp(lanes, lanes.add(size, size));
    let far = lanes.sub(one, lanes.div(lanes.splat(2.0), lanes.add(e, one)));
    let far = lanes.if_less(x, zero, negate(lanes, far), far);
    lanes.if_less(size, lanes.splat(0.625), near, far)
}

/// `ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)`.
///
/// `ln(1 + e) = 2 artanh(s)` with `s = e / (2 + e)`; error 4e-10.
#[inline(always)]
pub(super) fn softplus<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats {
    let two = lanes.splat(2.0);
    let e = exp(lanes, negate(lanes, lanes.abs(x)));
    let s = lanes.div(e, lanes.add(two, e));
    let z = lanes.mul(s, s);
    let p = polynomial(
        lanes,
        z,
        [
            0.666_666_7,
            0.399_997_06,
            0.285_923_6,
            0.217_065_76,
            0.232_243_3,
        ],
    );
    let log = lanes.mul_add(lanes.mul(s, z), p, lanes.mul(s, two));
    // The limit first: a NaN in the second operand stays.
    lanes.add(lanes.max(lanes.splat(0.0), x), log)
}

/// The normal distribution `(1 + erf(x / sqrt 2)) / 2`.
///
/// The tail beyond `|x|` is `e^(-x^2 / 2) t q(t)` with `t = 1 / (1 + |x| / sqrt 8)`; error of q 6e-9.
#[inline(always)]
pub(super) fn normal<L: Lanes>(lanes: L, x: L::Floats) -> L::Floats {
    const EIGHTH_ROOT: f32 = 0.353_553_4;
    let one = lanes.splat(1.0);
    let t = lanes.div(
        one,
        lanes.mul_add(lanes.abs(x), lanes.splat(EIGHTH_ROOT), one),
    );
    let q = polynomial(
        lanes,
        t,
        [
            0.141_045_21,
            0.141_105_3,
            0.122_784_525,
            0.091_782_04,
            0.030_715_476,
            0.010_848_07,
            -1.554_773_8e-3,
            -0.153_202,
            0.195_350_26,
            -0.096_938_48,
            0.018_064_374,
        ],
    );
    let e = exp(lanes, lanes.mul(lanes.mul(x, x), lanes.splat(-0.5)));
    let tail = lanes.mul(lanes.mul(e, t), q);
    lanes.if_less(x, lanes.splat(0.0), tail, lanes.sub(one, tail))
}
