//! Scalar dtypes: their bytes, and rounding a float64 to one of them. Block formats are in `dequant`.
//!
//! The half formats are decoded and rounded here from the definition of IEEE 754 binary16 and bfloat16, not by a
//! library that the code under test could share.

use ggrs_core::DType;

use super::array::{Array, IntArray};

/// The value of an IEEE 754 binary16 bit pattern.
pub fn f16_from_bits(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let mantissa = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    }
}

/// The value of a bfloat16 bit pattern: the upper half of a binary32.
pub fn bf16_from_bits(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// A binary floating-point format: significant bits (with the hidden one), smallest and largest exponent.
struct Format {
    precision: i32,
    min_exponent: i32,
    max_exponent: i32,
}

impl Format {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::F16 => Self {
                precision: 11,
                min_exponent: -14,
                max_exponent: 15,
            },
            DType::BF16 => Self {
                precision: 8,
                min_exponent: -126,
                max_exponent: 127,
            },
            _ => {
                assert_eq!(dtype, DType::F32, "not a scalar float type");
                Self {
                    precision: 24,
                    min_exponent: -126,
                    max_exponent: 127,
                }
            }
        }
    }
}

/// `x` rounded to the nearest value of a scalar float type, ties to even; beyond the largest value it is infinite.
///
/// # Panics
/// If `dtype` is not a scalar float type.
pub fn round_to(dtype: DType, x: f64) -> f64 {
    let format = Format::of(dtype);
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    // A subnormal float64 is far below every format's smallest step: its exponent field reads -1023, which rounds to 0.
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let step = 2f64.powi(exponent.max(format.min_exponent) - (format.precision - 1));
    let rounded = (x / step).round_ties_even() * step;
    if rounded.abs() >= 2f64.powi(format.max_exponent + 1) {
        f64::INFINITY.copysign(x)
    } else {
        rounded
    }
}

/// A cast: every element rounded to `dtype`; to integers by dropping the fraction.
///
/// # Panics
/// If `dtype` is a block format.
pub fn cast(x: &Array, dtype: DType) -> Array {
    x.map(|v| {
        if dtype.is_int() {
            v.trunc()
        } else {
            round_to(dtype, v)
        }
    })
}

/// Little-endian bytes of every element, rounded to a scalar float type.
///
/// # Panics
/// If `dtype` is not a scalar float type.
pub fn encode_floats(x: &Array, dtype: DType) -> Vec<u8> {
    x.data
        .iter()
        .flat_map(|&v| encode_float(round_to(dtype, v), dtype))
        .collect()
}

/// Bytes of a value that `dtype` holds exactly.
fn encode_float(v: f64, dtype: DType) -> Vec<u8> {
    // Exact: rounded values of all three formats are binary32 values.
    let bits = (v as f32).to_bits();
    match dtype {
        DType::F32 => bits.to_le_bytes().to_vec(),
        DType::BF16 if v.is_nan() => 0x7fc0u16.to_le_bytes().to_vec(),
        DType::BF16 => ((bits >> 16) as u16).to_le_bytes().to_vec(),
        _ => f16_bits(v).to_le_bytes().to_vec(),
    }
}

/// The binary16 bit pattern of a value that binary16 holds exactly.
fn f16_bits(v: f64) -> u16 {
    let sign = if v.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = v.abs();
    sign | if v.is_nan() {
        0x7e00
    } else if magnitude.is_infinite() {
        0x7c00
    } else if magnitude < 2f64.powi(-14) {
        (magnitude * 2f64.powi(24)) as u16
    } else {
        let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
        let mantissa = (magnitude / 2f64.powi(exponent) - 1.0) * 1024.0;
        ((exponent + 15) as u16) << 10 | mantissa as u16
    }
}

/// Little-endian bytes of I32 or I64 values.
///
/// # Panics
/// If `dtype` is not an integer type.
pub fn encode_ints(x: &IntArray, dtype: DType) -> Vec<u8> {
    assert!(dtype.is_int(), "{dtype} is not an integer type");
    x.data
        .iter()
        .flat_map(|&v| v.to_le_bytes()[..dtype.block_bytes()].to_vec())
        .collect()
}

/// I32 or I64 values from little-endian bytes.
///
/// # Panics
/// If `dtype` is not an integer type, or the bytes do not fill `shape`.
pub fn decode_ints(dtype: DType, shape: &[usize], bytes: &[u8]) -> IntArray {
    assert!(dtype.is_int(), "{dtype} is not an integer type");
    let data = bytes.chunks(dtype.block_bytes()).map(|chunk| {
        let is_negative = chunk.last().is_some_and(|&byte| byte >= 0x80);
        let mut extended = [if is_negative { 0xff } else { 0 }; 8];
        extended[..chunk.len()].copy_from_slice(chunk);
        i64::from_le_bytes(extended)
    });
    IntArray::new(shape, data.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every finite binary16 and bfloat16 value survives encoding, and rounds to itself.
    #[test]
    fn all_half_patterns_round_trip() {
        for bits in 0..=u16::MAX {
            for (dtype, value) in [
                (DType::F16, f16_from_bits(bits)),
                (DType::BF16, bf16_from_bits(bits)),
            ] {
                if value.is_nan() {
                    continue;
                }
                assert_eq!(round_to(dtype, value), value, "{dtype} {bits:#06x}");
                let bytes = encode_floats(&Array::new(&[1], vec![value]), dtype);
                assert_eq!(bytes, bits.to_le_bytes(), "{dtype} {bits:#06x}");
            }
        }
    }

    /// Rounding agrees with the `half` crate (another implementation) and with the hardware's binary32.
    #[test]
    fn rounding_agrees_with_independent_implementations() {
        let mut x = 1.0e-9f32;
        while x < 1.0e9 {
            for v in [x, -x, x * 1.000_488_3, x * 1.003_906_3] {
                assert_eq!(
                    round_to(DType::F16, v.into()),
                    f64::from(half::f16::from_f32(v)),
                    "{v}"
                );
                assert_eq!(
                    round_to(DType::BF16, v.into()),
                    f64::from(half::bf16::from_f32(v)),
                    "{v}"
                );
            }
            let wide = f64::from(x) * 1.000_000_123_456_789;
            assert_eq!(round_to(DType::F32, wide), f64::from(wide as f32), "{wide}");
            x *= 1.013;
        }
    }

    #[test]
    fn the_edges_of_binary16() {
        assert_eq!(round_to(DType::F16, 65_519.9), 65_504.0);
        assert_eq!(round_to(DType::F16, 65_520.0), f64::INFINITY);
        assert_eq!(round_to(DType::F16, -2f64.powi(-25)), 0.0);
        assert_eq!(round_to(DType::F16, 1.5 * 2f64.powi(-25)), 2f64.powi(-24));
    }

    #[test]
    fn integers_keep_their_sign() {
        let ids = IntArray::new(&[3], vec![-1, 0, 70_000]);
        for dtype in [DType::I32, DType::I64] {
            assert_eq!(decode_ints(dtype, &[3], &encode_ints(&ids, dtype)), ids);
        }
    }
}
