//! Random blocks of every dtype: valid, finite, and with a wanted standard deviation when dequantized.
//!
//! All bits are random but the scales, which set the size of the values. Dequantization itself is not known here.

use std::f32::consts::TAU;

use ggrs_core::DType;
use half::{bf16, f16};
use rand::{Rng, RngExt};

/// How to give random blocks a standard deviation.
struct Calibration {
    /// Standard deviation of the dequantized values when the scale is 1 and all other bits are random.
    unit_std: f32,
    /// Offset of the block's F16 scale.
    scale_at: usize,
    /// Offset of the block's F16 minimum, and how often it is the scale, so that the mean is 0.
    min: Option<(usize, f32)>,
}

const fn scale_only(unit_std: f32, scale_at: usize) -> Calibration {
    Calibration {
        unit_std,
        scale_at,
        min: None,
    }
}

const fn scale_and_min(unit_std: f32, scale_at: usize, factor: f32) -> Calibration {
    Calibration {
        unit_std,
        scale_at,
        min: Some((scale_at + 2, factor)),
    }
}

/// Standard deviation of a random MXFP4 block whose exponent is 127 or 128.
const MXFP4_UNIT_STD: f32 = 4.75;

/// The `n_blocks` random blocks of `dtype` whose values have mean 0 and the given standard deviation.
pub(super) fn random_blocks(
    dtype: DType,
    std: f32,
    n_blocks: usize,
    rng: &mut impl Rng,
) -> Vec<u8> {
    let mut bytes = vec![0; n_blocks * dtype.block_bytes()];
    let calibration = match dtype {
        DType::F32 => {
            return normals(n_blocks, std, rng)
                .flat_map(f32::to_le_bytes)
                .collect();
        }
        DType::F16 => {
            return normals(n_blocks, std, rng)
                .flat_map(|x| f16::from_f32(x).to_le_bytes())
                .collect();
        }
        DType::BF16 => {
            return normals(n_blocks, std, rng)
                .flat_map(|x| bf16::from_f32(x).to_le_bytes())
                .collect();
        }
        DType::I32 | DType::I64 => {
            rng.fill_bytes(&mut bytes);
            return bytes;
        }
        DType::MXFP4 => {
            rng.fill_bytes(&mut bytes);
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                set_exponent(block, std / MXFP4_UNIT_STD, rng);
            }
            return bytes;
        }
        DType::Q4_0 => scale_only(4.61, 0),
        DType::Q4_1 => scale_and_min(4.61, 0, -7.5),
        DType::Q5_0 => scale_only(9.23, 0),
        DType::Q5_1 => scale_and_min(9.23, 0, -15.5),
        DType::Q8_0 => scale_only(73.3, 0),
        DType::Q2_K => scale_and_min(13.9, 80, 1.5),
        DType::Q3_K => scale_only(43.4, 108),
        DType::Q4_K => scale_and_min(258.0, 0, 7.5),
        DType::Q5_K => scale_and_min(527.0, 0, 15.5),
        DType::Q6_K => scale_only(1365.0, 208),
        DType::IQ4_NL => scale_only(69.4, 0),
        DType::IQ4_XS => scale_only(1283.0, 0),
    };
    rng.fill_bytes(&mut bytes);
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        let scale = std / calibration.unit_std * rng.random_range(0.75..1.25);
        set_f16(block, calibration.scale_at, scale);
        if let Some((min_at, factor)) = calibration.min {
            set_f16(block, min_at, factor * scale);
        }
        if dtype == DType::Q8_0 {
            // Quantizers never write -128.
            block
                .iter_mut()
                .skip(2)
                .filter(|q| **q == 0x80)
                .for_each(|q| *q = 0x81);
        }
    }
    bytes
}

fn set_f16(block: &mut [u8], at: usize, value: f32) {
    if let Some(bytes) = block.get_mut(at..at + 2) {
        bytes.copy_from_slice(&f16::from_f32(value).to_le_bytes());
    }
}

/// Sets the E8M0 scale of an MXFP4 block: the power of two below or above `scale`.
fn set_exponent(block: &mut [u8], scale: f32, rng: &mut impl Rng) {
    let exponent = scale.log2().round() as i32 + 127 + rng.random_range(0..2);
    if let Some(byte) = block.first_mut() {
        *byte = exponent.clamp(1, 250) as u8;
    }
}

/// Normally distributed numbers, by the method of Box and Muller.
pub(super) fn normals<R: Rng>(
    n: usize,
    std: f32,
    rng: &mut R,
) -> impl Iterator<Item = f32> + use<'_, R> {
    let pair = move || {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt() * std;
        let (sin, cos) = (TAU * rng.random::<f32>()).sin_cos();
        [radius * cos, radius * sin]
    };
    std::iter::repeat_with(pair).flatten().take(n)
}
