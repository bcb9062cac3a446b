//! Block formats in planes: each field of a format's block lies with the same field of all other blocks, so that a
//! kernel loads aligned runs of one field. The bytes are the file's own, in another order.
//!
//! A tensor in the file's layout is planes too: those that start inside the first block, one block apart.

use bytemuck::{Pod, Zeroable};
use ggrs_core::{DType, TensorDesc};

use crate::driver::DevicePtr;
use crate::kernel::Operand;

/// At most so many fields per block.
pub(crate) const MAX_PLANES: usize = 4;

/// Each plane starts at a multiple of this.
pub(crate) const PLANE_ALIGN: u64 = 256;

/// A field of a block: first byte and number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) start: u32,
    pub(crate) bytes: u32,
}

const fn field(start: u32, bytes: u32) -> Field {
    Field { start, bytes }
}

/// The fields of a block format in the order of the planes: quants first (ggml-common.h); `None` for scalars.
pub(crate) const fn fields(dtype: DType) -> Option<&'static [Field]> {
    Some(match dtype {
        // quants, scale
        DType::Q4_0 | DType::IQ4_NL => const { &[field(2, 16), field(0, 2)] },
        // quants, scale and minimum
        DType::Q4_1 => const { &[field(4, 16), field(0, 4)] },
        // quants, fifth bits, scale
        DType::Q5_0 => const { &[field(6, 16), field(2, 4), field(0, 2)] },
        // quants, fifth bits, scale and minimum
        DType::Q5_1 => const { &[field(8, 16), field(4, 4), field(0, 4)] },
        // quants, scale
        DType::Q8_0 => const { &[field(2, 32), field(0, 2)] },
        // quants, scales and minimums of 16, scale and minimum of all
        DType::Q2_K => const { &[field(16, 64), field(0, 16), field(80, 4)] },
        // low bits, third bits, scales of 16, scale of all
        DType::Q3_K => const { &[field(32, 64), field(0, 32), field(96, 12), field(108, 2)] },
        // quants, scale and minimum of all with scales and minimums of 32
        DType::Q4_K => const { &[field(16, 128), field(0, 16)] },
        // low bits, fifth bits, scale and minimum of all with scales and minimums of 32
        DType::Q5_K => const { &[field(48, 128), field(16, 32), field(0, 16)] },
        // low bits, high bits, scales of 16, scale of all
        DType::Q6_K => const { &[field(0, 128), field(128, 64), field(192, 16), field(208, 2)] },
        // quants, scale of all with scales of 32
        DType::IQ4_XS => const { &[field(8, 128), field(0, 8)] },
        // quants, exponent
        DType::MXFP4 => const { &[field(1, 16), field(0, 1)] },
        DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::I64 => return None,
    })
}

/// `Planes` of `planes.cuh`: where each plane of a tensor starts, and bytes from a block's field to the next one's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub(crate) struct Planes {
    pub(crate) start: [u64; MAX_PLANES],
    pub(crate) pitch: [u32; MAX_PLANES],
}

const _: () = assert!(size_of::<Planes>() == 48);

/// Bytes of a plane, padded.
const fn plane_bytes(n_blocks: u64, field: Field) -> u64 {
    n_blocks
        .saturating_mul(field.bytes as u64)
        .next_multiple_of(PLANE_ALIGN)
}

/// Bytes that so many blocks take in planes.
pub(crate) fn packed_bytes(dtype: DType, n_blocks: u64) -> Option<u64> {
    let fields = fields(dtype)?;
    Some(fields.iter().map(|f| plane_bytes(n_blocks, *f)).sum())
}

/// Blocks of a contiguous tensor.
pub(crate) fn n_blocks(desc: &TensorDesc) -> u64 {
    let elems = desc.shape.elems().unwrap_or(0);
    (elems / desc.dtype.block_elems()) as u64
}

impl Planes {
    /// The planes of `n_blocks` blocks in planes at `storage`.
    pub(crate) fn packed(dtype: DType, storage: DevicePtr, n_blocks: u64) -> Self {
        let mut planes = Self::default();
        let mut at = storage;
        let places = planes.start.iter_mut().zip(&mut planes.pitch);
        for ((start, pitch), field) in places.zip(fields(dtype).unwrap_or_default()) {
            *start = at.0;
            *pitch = field.bytes;
            at = at.plus(plane_bytes(n_blocks, *field));
        }
        planes
    }

    /// The planes of blocks in the file's layout.
    pub(crate) fn native(dtype: DType, storage: DevicePtr) -> Self {
        let mut planes = Self::default();
        let places = planes.start.iter_mut().zip(&mut planes.pitch);
        for ((start, pitch), field) in places.zip(fields(dtype).unwrap_or_default()) {
            *start = storage.plus(u64::from(field.start)).0;
            *pitch = dtype.block_bytes() as u32;
        }
        planes
    }

    /// The planes of an operand, moved on to its first element.
    pub(crate) fn of(operand: &Operand<'_>) -> Self {
        let desc = operand.desc;
        let mut planes = if operand.is_packed {
            let n_blocks = operand.storage_elems / desc.dtype.block_elems();
            Self::packed(desc.dtype, operand.storage, n_blocks as u64)
        } else {
            Self::native(desc.dtype, operand.storage)
        };
        if desc.shape.elems() != Some(0) {
            let skip = (desc.layout.offset() / desc.dtype.block_elems()) as u64;
            for (start, pitch) in planes.start.iter_mut().zip(planes.pitch) {
                *start = start.wrapping_add(skip * u64::from(pitch));
            }
        }
        planes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cover_every_block_once() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_block()) {
            let mut covered = vec![0; dtype.block_bytes()];
            for f in fields(dtype).unwrap() {
                for byte in &mut covered[f.start as usize..(f.start + f.bytes) as usize] {
                    *byte += 1;
                }
            }
            assert!(covered.iter().all(|n| *n == 1), "{dtype}");
        }
    }
}
