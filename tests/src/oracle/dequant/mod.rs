//! Block formats to float64, from the layouts of GGUF files (ggml's `block_*` structs, gguf-py's `quants`).
//!
//! One function per format turns the bytes of one block into its elements. It must not share code with a device.

mod blocks_of_256;
mod blocks_of_32;
mod iq4;

use ggrs_core::DType;

use super::array::Array;
use super::scalar::{bf16_from_bits, f16_from_bits};

/// The values of a contiguous tensor of any floating-point dtype, block formats included.
///
/// # Panics
/// If `dtype` is an integer type or the bytes do not fill `shape`.
pub fn dequantize(dtype: DType, shape: &[usize], bytes: &[u8]) -> Array {
    assert!(!dtype.is_int(), "{dtype} holds no floating-point values");
    assert_eq!(
        bytes.len() % dtype.block_bytes(),
        0,
        "{} bytes of {dtype}",
        bytes.len()
    );
    let block: fn(&[u8]) -> Vec<f64> = match dtype {
        DType::F32 => |b| vec![f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))],
        DType::F16 => |b| vec![f16_at(b, 0)],
        DType::BF16 => |b| vec![bf16_from_bits(u16::from_le_bytes([b[0], b[1]]))],
        DType::Q4_0 => blocks_of_32::q4_0,
        DType::Q4_1 => blocks_of_32::q4_1,
        DType::Q5_0 => blocks_of_32::q5_0,
        DType::Q5_1 => blocks_of_32::q5_1,
        DType::Q8_0 => blocks_of_32::q8_0,
        DType::MXFP4 => blocks_of_32::mxfp4,
        DType::Q2_K => blocks_of_256::q2_k,
        DType::Q3_K => blocks_of_256::q3_k,
        DType::Q4_K => blocks_of_256::q4_k,
        DType::Q5_K => blocks_of_256::q5_k,
        DType::Q6_K => blocks_of_256::q6_k,
        DType::IQ4_NL => iq4::iq4_nl,
        DType::IQ4_XS => iq4::iq4_xs,
        DType::I32 | DType::I64 => |_| Vec::new(),
    };
    Array::new(
        shape,
        bytes.chunks(dtype.block_bytes()).flat_map(block).collect(),
    )
}

/// The binary16 value at byte `offset`.
fn f16_at(bytes: &[u8], offset: usize) -> f64 {
    f16_from_bits(u16::from_le_bytes([bytes[offset], bytes[offset + 1]]))
}

/// Element `i` of 32 four-bit numbers in 16 bytes: low nibbles first, then high nibbles.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    if i < 16 {
        bytes[i] & 0xf
    } else {
        bytes[i - 16] >> 4
    }
}
