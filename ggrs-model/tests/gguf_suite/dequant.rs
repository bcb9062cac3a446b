//! Dequantization in float64, written from the description of the formats: what random blocks are judged by.
//!
//! Slow and plain on purpose; this file must not use a device's code.

use ggrs_core::DType;
use half::{bf16, f16};

const IQ4: [f64; 16] = [
    -127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.,
];
const E2M1: [f64; 16] = [
    0., 0.5, 1., 1.5, 2., 3., 4., 6., -0., -0.5, -1., -1.5, -2., -3., -4., -6.,
];

/// The values of contiguous blocks.
pub(crate) fn dequantize(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    bytes
        .chunks_exact(dtype.block_bytes())
        .flat_map(|block| dequantize_block(dtype, block))
        .collect()
}

fn half(b: &[u8], at: usize) -> f64 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f64()
}

/// Low nibbles of 16 bytes, then high nibbles.
fn nibbles(qs: &[u8]) -> impl Iterator<Item = u8> {
    qs.iter().map(|q| q & 15).chain(qs.iter().map(|q| q >> 4))
}

/// 6-bit scale and minimum number `j` of Q4_K and Q5_K.
fn scale_min(s: &[u8], j: usize) -> (f64, f64) {
    let (scale, min) = if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (
            (s[j + 4] & 15) | (s[j - 4] >> 6) << 4,
            (s[j + 4] >> 4) | (s[j] >> 6) << 4,
        )
    };
    (scale.into(), min.into())
}

fn dequantize_block(dtype: DType, b: &[u8]) -> Vec<f64> {
    let fifth_bit = |qh: &[u8], i: usize| (qh[i / 8] >> (i % 8) & 1) << 4;
    match dtype {
        DType::F32 => vec![f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()],
        DType::F16 => vec![half(b, 0)],
        DType::BF16 => vec![bf16::from_le_bytes([b[0], b[1]]).to_f64()],
        DType::I32 | DType::I64 => panic!("not a weight"),
        DType::Q4_0 => nibbles(&b[2..])
            .map(|q| half(b, 0) * (f64::from(q) - 8.))
            .collect(),
        DType::Q4_1 => nibbles(&b[4..])
            .map(|q| half(b, 0) * f64::from(q) + half(b, 2))
            .collect(),
        DType::Q5_0 => {
            let qs = nibbles(&b[6..])
                .enumerate()
                .map(|(i, q)| q | fifth_bit(&b[2..6], i));
            qs.map(|q| half(b, 0) * (f64::from(q) - 16.)).collect()
        }
        DType::Q5_1 => {
            let qs = nibbles(&b[8..])
                .enumerate()
                .map(|(i, q)| q | fifth_bit(&b[4..8], i));
            qs.map(|q| half(b, 0) * f64::from(q) + half(b, 2)).collect()
        }
        DType::Q8_0 => b[2..]
            .iter()
            .map(|q| half(b, 0) * f64::from(*q as i8))
            .collect(),
        DType::IQ4_NL => nibbles(&b[2..])
            .map(|q| half(b, 0) * IQ4[usize::from(q)])
            .collect(),
        DType::MXFP4 => {
            let scale = 2f64.powi(i32::from(b[0]) - 127);
            nibbles(&b[1..])
                .map(|q| scale * E2M1[usize::from(q)])
                .collect()
        }
        DType::IQ4_XS => (0..8)
            .flat_map(|i| {
                let high = u16::from_le_bytes([b[2], b[3]]) >> (2 * i) & 3;
                let scale =
                    f64::from(b[4 + i / 2] >> (4 * (i % 2)) & 15) + f64::from(16 * high) - 32.;
                nibbles(&b[8 + 16 * i..24 + 16 * i])
                    .map(move |q| half(b, 0) * scale * IQ4[usize::from(q)])
            })
            .collect(),
        DType::Q4_K | DType::Q5_K => (0..256)
            .map(|i| {
                let (qs, pair, l) = (&b[b.len() - 128..], i / 64, i % 32);
                let low = qs[32 * pair + l] >> (4 * (i / 32 % 2)) & 15;
                let high = if dtype == DType::Q5_K {
                    (b[16 + l] >> (i / 32) & 1) << 4
                } else {
                    0
                };
                let (scale, min) = scale_min(&b[4..16], i / 32);
                half(b, 0) * scale * f64::from(low | high) - half(b, 2) * min
            })
            .collect(),
        DType::Q2_K => (0..256)
            .map(|i| {
                let q = b[16 + 32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
                let scale = b[i / 16];
                half(b, 80) * f64::from(scale & 15) * f64::from(q)
                    - half(b, 82) * f64::from(scale >> 4)
            })
            .collect(),
        DType::Q3_K => (0..256)
            .map(|i| {
                let low = b[32 + 32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
                let high = b[i % 32] >> (i / 32) & 1;
                let (s, j) = (&b[96..108], i / 16);
                let scale =
                    (s[j % 8] >> (4 * (j / 8)) & 15) | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
                half(b, 108) * (f64::from(scale) - 32.) * (f64::from(low | high << 2) - 4.)
            })
            .collect(),
        DType::Q6_K => (0..256)
            .map(|i| {
                let (part, group, l) = (i / 128, i / 32 % 4, i % 32);
                let low = b[64 * part + 32 * (group % 2) + l] >> (4 * (group / 2)) & 15;
                let high = b[128 + 32 * part + l] >> (2 * group) & 3;
                let scale = f64::from(b[192 + i / 16] as i8);
                half(b, 208) * scale * (f64::from(low | high << 4) - 32.)
            })
            .collect(),
    }
}
