//! The row arithmetic of every instruction-set level against F64, at random and at the edges.

use ggrs_core::DType;
use ggrs_core::ops::UnaryKind;
use ggrs_cpu::formats::dequantize_row;
use ggrs_cpu::isa::Isa;
use ggrs_cpu::math;

/// Numbers of a linear congruential generator, uniform in -1..1.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / 8_388_608.0 - 1.0
        })
        .collect()
}

fn nmse(actual: &[f32], expected: &[f64]) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (a, e) in actual.iter().zip(expected) {
        error += (f64::from(*a) - e).powi(2);
        norm += e * e;
    }
    if error == 0.0 { 0.0 } else { error / norm }
}

/// The error function by its series; all terms have one sign (Abramowitz and Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut total, mut n) = (x, x, 1.0);
    while term.abs() > total.abs() * 1e-18 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        total += term;
        n += 1.0;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * total
}

fn expected(kind: UnaryKind, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match kind {
        UnaryKind::Silu => x * sigmoid(x),
        UnaryKind::Sigmoid => sigmoid(x),
        UnaryKind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Gelu => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        }
        UnaryKind::GeluErf => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        UnaryKind::GeluQuick => x * sigmoid(1.702 * x),
        UnaryKind::Exp => x.exp(),
        UnaryKind::Neg => -x,
        UnaryKind::Relu => x.max(0.0),
        UnaryKind::Sqr => x * x,
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Sin => x.sin(),
        UnaryKind::Cos => x.cos(),
    }
}

#[test]
fn unary_functions_are_those_of_f64() {
    for isa in Isa::available() {
        for kind in UnaryKind::ALL {
            for (scale, n) in [(1e-3, 1000), (1.0, 1001), (8.0, 4096), (30.0, 777)] {
                let mut x: Vec<f32> = numbers(n, 7).iter().map(|x| x * scale).collect();
                if kind == UnaryKind::Sqrt {
                    x.iter_mut().for_each(|x| *x = x.abs());
                }
                let truth: Vec<f64> = x.iter().map(|x| expected(kind, f64::from(*x))).collect();
                let mut out = vec![f32::NAN; n];
                math::unary(isa, kind, &x, &mut out);
                let error = nmse(&out, &truth);
                assert!(error < 3e-14, "{isa} {kind:?} x{scale}: {error:e}");
                let mut gated = vec![f32::NAN; n];
                math::gated(isa, kind, &x, &vec![-2.0; n], &mut gated);
                let mut in_place = x.clone();
                math::unary_in_place(isa, kind, &mut in_place);
                assert_eq!(in_place, out, "{isa} {kind:?} in place");
                assert!(gated.iter().zip(&out).all(|(g, o)| *g == -2.0 * o));
            }
        }
    }
}

/// Relative error of every value, where the F32 result is a normal number.
#[test]
fn exponentials_keep_their_relative_precision_over_the_whole_range() {
    let kinds = [
        (UnaryKind::Exp, 2e-7, -87.0, 88.7),
        (UnaryKind::Sigmoid, 3e-7, -87.0, 100.0),
        (UnaryKind::Tanh, 3e-7, -12.0, 12.0),
        (UnaryKind::Softplus, 4e-7, -87.0, 100.0),
        (UnaryKind::Silu, 4e-7, -80.0, 100.0),
    ];
    for isa in Isa::available() {
        for (kind, limit, low, high) in kinds {
            let x: Vec<f32> = (0..20_001)
                .map(|i| low + (high - low) * (i as f32 / 20_000.0))
                .collect();
            let mut out = vec![f32::NAN; x.len()];
            math::unary(isa, kind, &x, &mut out);
            for (x, out) in x.iter().zip(&out) {
                let truth = expected(kind, f64::from(*x));
                let error = (f64::from(*out) - truth).abs();
                assert!(
                    error <= limit * truth.abs(),
                    "{isa} {kind:?}({x}) = {out}, not {truth}"
                );
            }
        }
    }
}

#[test]
fn edges_of_the_exponentials() {
    use UnaryKind::{Exp, Gelu, GeluErf, GeluQuick, Relu, Sigmoid, Silu, Softplus, Tanh};
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let cases = [
        (Exp, inf, inf),
        (Exp, -inf, 0.0),
        (Exp, 0.0, 1.0),
        (Exp, 89.0, inf),
        (Exp, -104.0, 0.0),
        (Exp, -1e30, 0.0),
        (Exp, 1e30, inf),
        // 2^-149, the smallest number: gradual underflow.
        (Exp, -103.278_93, 1e-45),
        (Sigmoid, inf, 1.0),
        (Sigmoid, -inf, 0.0),
        (Tanh, inf, 1.0),
        (Tanh, -inf, -1.0),
        (Tanh, 0.0, 0.0),
        (Softplus, inf, inf),
        (Softplus, -inf, 0.0),
        (Softplus, 1e30, 1e30),
        (Silu, 1e30, 1e30),
        (Silu, -1e30, 0.0),
        (Gelu, 1e30, 1e30),
        (Gelu, -1e30, 0.0),
        (GeluErf, 1e30, 1e30),
        (GeluErf, -1e30, 0.0),
        (GeluQuick, -1e30, 0.0),
        (Relu, -inf, 0.0),
    ];
    for isa in Isa::available() {
        for (kind, x, truth) in cases {
            // Once in a whole vector, once in a tail.
            for n in [64, 3] {
                let mut out = vec![nan; n];
                math::unary(isa, kind, &vec![x; n], &mut out);
                assert!(
                    out.iter().all(|o| *o == truth),
                    "{isa} {kind:?}({x}) = {out:?}"
                );
            }
        }
        for kind in UnaryKind::ALL {
            let mut out = [0.0; 17];
            math::unary(isa, kind, &[nan; 17], &mut out);
            assert!(out.iter().all(|o| o.is_nan()), "{isa} {kind:?} of NaN");
        }
    }
}

#[test]
fn sums_of_any_length() {
    for isa in Isa::available() {
        for n in [0, 1, 7, 16, 63, 64, 65, 2048, 2049, 10_000, 151_936] {
            let (a, b) = (numbers(n, 1), numbers(n, 2));
            let a: Vec<f32> = a.iter().map(|a| a + 0.5).collect();
            let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let (wa, wb) = (wide(&a), wide(&b));
            let close = |what: &str, got: f64, truth: f64, size: f64| {
                assert!(
                    (got - truth).abs() <= 2e-6 * size.max(1e-30),
                    "{isa} {what} of {n}: {got}, not {truth}"
                );
            };
            let size: f64 = wa.iter().map(|a| a.abs()).sum();
            close("sum", math::sum(isa, &a), wa.iter().sum(), size);
            let squares: f64 = wa.iter().map(|a| a * a).sum();
            close("squares", math::sum_squares(isa, &a), squares, squares);
            let (sum, squares) = math::deviations(isa, &a, 0.375);
            let deviations = wa.iter().map(|a| a - 0.375);
            close("deviations", sum, deviations.clone().sum(), size);
            let truth = deviations.map(|d| d * d).sum();
            close("their squares", squares, truth, truth);
            let products = wa.iter().zip(&wb).map(|(a, b)| a * b);
            let got = f64::from(math::dot(isa, &a, &b));
            close(
                "dot",
                got,
                products.clone().sum(),
                products.map(f64::abs).sum(),
            );
            // Squares beyond the range of F32.
            for scale in [1e-25, 1e25] {
                let x: Vec<f32> = a.iter().map(|a| a * scale).collect();
                let truth: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
                let got = math::sum_squares(isa, &x);
                assert!(
                    (got - truth).abs() <= 1e-6 * truth,
                    "{isa}: {got}, not {truth}"
                );
            }
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(math::max(isa, &a), largest, "{isa} max of {n}");
        }
    }
}

#[test]
fn rows_are_scaled_and_added() {
    for isa in Isa::available() {
        for n in [0, 1, 15, 16, 33] {
            let (x, y) = (numbers(n, 3), numbers(n, 4));
            let mut out = vec![f32::NAN; n];
            math::scale(isa, 0.5, 0.25, &x, &mut out);
            assert!(x.iter().zip(&out).all(|(x, o)| *o == 0.5 * x + 0.25));
            let mut again = vec![f32::NAN; n];
            math::scale_deviations(isa, -0.5, 0.5, 0.0, &x, &mut again);
            assert!(out.iter().zip(&again).all(|(a, b)| (a - b).abs() <= 1e-7));
            math::scale_each(isa, 2.0, &x, &y, &mut again);
            assert!((0..n).all(|i| again[i] == 2.0 * x[i] * y[i]));
            math::add(isa, &x, &y, &mut again);
            assert!((0..n).all(|i| again[i] == x[i] + y[i]));
            math::scale_in_place(isa, 4.0, &mut out);
            assert!(x.iter().zip(&out).all(|(x, o)| *o == 2.0 * x + 1.0));
            let mut sum = y.clone();
            math::axpy(isa, 0.5, &x, &mut sum);
            assert!((0..n).all(|i| (sum[i] - (y[i] + 0.5 * x[i])).abs() <= 1e-7));
        }
    }
}

#[test]
fn fast_rows_have_the_bits_of_the_formats() {
    let dtypes = DType::ALL.into_iter().filter(|d| !d.is_int());
    for dtype in dtypes {
        for n in [0, 1, 9, 32, 40, 96, 256, 512] {
            let Some(n_bytes) = dtype.row_bytes(n) else {
                continue;
            };
            // Scales of all bit patterns but those of infinities and NaN.
            let bytes: Vec<u8> = numbers(n_bytes, 5)
                .iter()
                .map(|x| ((x * 128.0) as i8).cast_unsigned() & 0xbf)
                .collect();
            let mut truth = vec![f32::NAN; n];
            dequantize_row(dtype, &bytes, &mut truth).expect("whole blocks");
            for isa in Isa::available() {
                let mut row = vec![f32::NAN; n];
                math::read_row(isa, dtype, &bytes, &mut row).expect("whole blocks");
                assert!(
                    row.iter()
                        .zip(&truth)
                        .all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{isa} {dtype} x{n}"
                );
            }
        }
        let mut short = [0.0; 32];
        assert!(math::read_row(Isa::Scalar, dtype, &[0; 1], &mut short).is_err());
    }
}
