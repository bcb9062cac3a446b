//! Ops that treat every element alike: arithmetic of two arrays, scale, clamp and the unary functions.

use super::array::Array;
use super::layout::broadcast;

/// Arithmetic of two arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryKind {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

/// Element by element after numpy broadcasting of both sides.
///
/// # Panics
/// If the shapes do not broadcast to each other.
pub fn binary(kind: BinaryKind, a: &Array, b: &Array) -> Array {
    let rank = a.rank().max(b.rank());
    let extent = |x: &Array, axis: usize| {
        if axis + x.rank() < rank {
            1
        } else {
            x.shape[axis + x.rank() - rank]
        }
    };
    let shape: Vec<usize> = (0..rank)
        .map(|axis| {
            if extent(a, axis) == 1 {
                extent(b, axis)
            } else {
                extent(a, axis)
            }
        })
        .collect();
    let (a, b) = (broadcast(a, &shape), broadcast(b, &shape));
    Array::from_fn(&shape, |idx| {
        let (x, y) = (a.at(idx), b.at(idx));
        match kind {
            BinaryKind::Add => x + y,
            BinaryKind::Sub => x - y,
            BinaryKind::Mul => x * y,
            BinaryKind::Div => x / y,
        }
    })
}

/// `factor * x + bias`.
pub fn scale(x: &Array, factor: f64, bias: f64) -> Array {
    x.map(|v| factor * v + bias)
}

/// Every element moved into `min..=max`; NaN stays NaN.
pub fn clamp(x: &Array, min: f64, max: f64) -> Array {
    x.map(|v| v.clamp(min, max))
}

/// Functions of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryKind {
    /// `x * sigmoid(x)`
    Silu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `ln(1 + e^x)`
    Softplus,
    /// `tanh x`
    Tanh,
    /// GELU by its tanh approximation: `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
    Gelu,
    /// GELU by its definition: `x/2 * (1 + erf(x / sqrt 2))`
    GeluErf,
    /// `x * sigmoid(1.702 x)`
    GeluQuick,
    /// `e^x`
    Exp,
    /// `-x`
    Neg,
    /// `max(x, 0)`
    Relu,
    /// `x^2`
    Sqr,
    /// The square root.
    Sqrt,
    /// The sine of an angle in radians.
    Sin,
    /// The cosine of an angle in radians.
    Cos,
}

/// The value of `kind` at `x`.
fn value(kind: UnaryKind, x: f64) -> f64 {
    match kind {
        UnaryKind::Silu => x * sigmoid(x),
        UnaryKind::Sigmoid => sigmoid(x),
        // ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), which cannot overflow.
        UnaryKind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Gelu => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
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

/// `kind` of every element.
pub fn unary(kind: UnaryKind, x: &Array) -> Array {
    x.map(|v| value(kind, v))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function, by the series `2/sqrt(pi) * e^(-x^2) * sum 2^n x^(2n+1) / (1*3*...*(2n+1))`.
///
/// All terms have one sign, so nothing cancels (Abramowitz and Stegun 7.1.6).
pub fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return x.clamp(-1.0, 1.0);
    }
    let mut term = x;
    let mut total = x;
    let mut n = 1.0;
    while term.abs() > total.abs() * 1e-18 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        total += term;
        n += 1.0;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the error function from the tables of Abramowitz and Stegun (7.1) and the NIST handbook.
    #[test]
    fn erf_matches_published_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (7.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 1e-15, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn saturating_functions_stay_finite_at_the_ends() {
        for kind in [
            UnaryKind::Silu,
            UnaryKind::Sigmoid,
            UnaryKind::Softplus,
            UnaryKind::Gelu,
            UnaryKind::GeluErf,
        ] {
            for x in [-1e4, -700.0, 700.0, 1e4] {
                assert!(value(kind, x).is_finite(), "{kind:?} of {x}");
            }
        }
    }

    /// The functions that no fixture covers, and the ends of one whose naive form overflows.
    #[test]
    fn simple_functions() {
        let two = |kind| value(kind, 2.0);
        assert!((two(UnaryKind::Exp) - std::f64::consts::E.powi(2)).abs() < 1e-14);
        assert_eq!(
            (
                two(UnaryKind::Neg),
                two(UnaryKind::Sqr),
                two(UnaryKind::Relu)
            ),
            (-2.0, 4.0, 2.0)
        );
        assert_eq!(value(UnaryKind::Relu, -2.0), 0.0);
        assert_eq!(value(UnaryKind::Softplus, 800.0), 800.0);
        assert_eq!(value(UnaryKind::Softplus, 0.0), std::f64::consts::LN_2);
    }

    #[test]
    fn both_sides_broadcast() {
        let column = Array::new(&[2, 1], vec![1.0, 2.0]);
        let row = Array::new(&[3], vec![10.0, 20.0, 30.0]);
        let sum = binary(BinaryKind::Sub, &column, &row);
        assert_eq!(
            (sum.shape, sum.data),
            (vec![2, 3], vec![-9.0, -19.0, -29.0, -8.0, -18.0, -28.0])
        );
    }
}
