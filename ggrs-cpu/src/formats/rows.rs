//! Whole-row conversion between any format and F32: checks the lengths, then hands over to the format's family.

use ggrs_core::DType;

use super::{FormatError, blocks32, floats, k_quants, table4};

/// Can [`quantize_row`] write this dtype?
pub const fn can_quantize(dtype: DType) -> bool {
    use DType::{BF16, F16, F32, IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    matches!(
        dtype,
        F32 | F16 | BF16 | Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | IQ4_NL
    )
}

fn check_lengths(dtype: DType, n_elems: usize, found_bytes: usize) -> Result<(), FormatError> {
    if dtype.is_int() {
        return Err(FormatError::NotFloat { dtype });
    }
    let expected_bytes = dtype.row_bytes(n_elems).ok_or(FormatError::PartialBlock {
        dtype,
        n_elems,
        block_elems: dtype.block_elems(),
    })?;
    if expected_bytes == found_bytes {
        Ok(())
    } else {
        Err(FormatError::Length {
            dtype,
            n_elems,
            expected_bytes,
            found_bytes,
        })
    }
}

/// Reads a contiguous row of any float or block dtype as F32, bit for bit as ggml's reference does.
///
/// # Errors
/// An integer dtype, a row that does not end on a block, or `bytes` of another length than `out` needs.
pub fn dequantize_row(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), FormatError> {
    check_lengths(dtype, out.len(), bytes.len())?;
    match dtype {
        DType::F32 => floats::read_f32(bytes, out),
        DType::F16 => floats::read_f16(bytes, out),
        DType::BF16 => floats::read_bf16(bytes, out),
        DType::Q4_0 => blocks32::read_q4_0(bytes, out),
        DType::Q4_1 => blocks32::read_q4_1(bytes, out),
        DType::Q5_0 => blocks32::read_q5_0(bytes, out),
        DType::Q5_1 => blocks32::read_q5_1(bytes, out),
        DType::Q8_0 => blocks32::read_q8_0(bytes, out),
        DType::Q2_K => k_quants::read_q2_k(bytes, out),
        DType::Q3_K => k_quants::read_q3_k(bytes, out),
        DType::Q4_K => k_quants::read_q4_k(bytes, out),
        DType::Q5_K => k_quants::read_q5_k(bytes, out),
        DType::Q6_K => k_quants::read_q6_k(bytes, out),
        DType::IQ4_NL => table4::read_iq4_nl(bytes, out),
        DType::IQ4_XS => table4::read_iq4_xs(bytes, out),
        DType::MXFP4 => table4::read_mxfp4(bytes, out),
        DType::I32 | DType::I64 => return Err(FormatError::NotFloat { dtype }),
    }
    Ok(())
}

/// Writes a row of F32 values as `dtype`, rounded as ggml's reference quantisers round.
///
/// # Errors
/// A dtype outside [`can_quantize`], a row that does not end on a block, or `bytes` of another length than `values` needs.
pub fn quantize_row(dtype: DType, values: &[f32], bytes: &mut [u8]) -> Result<(), FormatError> {
    check_lengths(dtype, values.len(), bytes.len())?;
    match dtype {
        DType::F32 => floats::write_f32(values, bytes),
        DType::F16 => floats::write_f16(values, bytes),
        DType::BF16 => floats::write_bf16(values, bytes),
        DType::Q4_0 => blocks32::write_q4_0(values, bytes),
        DType::Q4_1 => blocks32::write_q4_1(values, bytes),
        DType::Q5_0 => blocks32::write_q5_0(values, bytes),
        DType::Q5_1 => blocks32::write_q5_1(values, bytes),
        DType::Q8_0 => blocks32::write_q8_0(values, bytes),
        DType::IQ4_NL => table4::write_iq4_nl(values, bytes),
        _ => return Err(FormatError::NotWritable { dtype }),
    }
    Ok(())
}
