//! Element types: scalars and the block formats of GGUF files, in one table.
//!
//! A block format packs a fixed number of elements of the last axis into a fixed number of bytes. This file knows
//! how many; what the bytes mean is the business of the devices and of the test oracle.

use std::fmt;

/// The type of a tensor's elements.
///
/// Scalars are little-endian. Block formats are laid out as in GGUF files (ggml `block_*` structs), bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[allow(non_camel_case_types, reason = "the formats' own names")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// Signed 32-bit integer: positions, expert ids, row ids.
    I32,
    /// Signed 64-bit integer: row ids of very large tensors.
    I64,
    /// 32 elements of 4 bits, one F16 scale.
    Q4_0,
    /// 32 elements of 4 bits, F16 scale and minimum.
    Q4_1,
    /// 32 elements of 5 bits, one F16 scale.
    Q5_0,
    /// 32 elements of 5 bits, F16 scale and minimum.
    Q5_1,
    /// 32 elements of 8 bits, one F16 scale.
    Q8_0,
    /// 256 elements of 2 bits, 4-bit scales and minimums for each 16.
    Q2_K,
    /// 256 elements of 3 bits, 6-bit scales for each 16.
    Q3_K,
    /// 256 elements of 4 bits, 6-bit scales and minimums for each 32.
    Q4_K,
    /// 256 elements of 5 bits, 6-bit scales and minimums for each 32.
    Q5_K,
    /// 256 elements of 6 bits, 8-bit scales for each 16.
    Q6_K,
    /// 32 elements of 4 bits that index a fixed table of 16 values, one F16 scale.
    IQ4_NL,
    /// 256 elements like IQ4_NL, 6-bit scales for each 32.
    IQ4_XS,
    /// 32 elements of 4-bit floating point (E2M1), one E8M0 scale.
    MXFP4,
}

/// What kind of value a dtype holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DTypeKind {
    /// A floating-point scalar.
    Float,
    /// An integer scalar.
    Int,
    /// Floating-point values packed in blocks.
    Block,
}

/// One row of the dtype table.
struct Row {
    name: &'static str,
    kind: DTypeKind,
    block_elems: usize,
    block_bytes: usize,
}

const fn row(name: &'static str, kind: DTypeKind, block_elems: usize, block_bytes: usize) -> Row {
    Row {
        name,
        kind,
        block_elems,
        block_bytes,
    }
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [Self; 18] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I32,
        Self::I64,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
    ];

    /// The table: name, kind, elements per block, bytes per block (ggml-common.h).
    #[inline]
    const fn row(self) -> Row {
        use DTypeKind::{Block, Float, Int};
        match self {
            Self::F32 => row("F32", Float, 1, 4),
            Self::F16 => row("F16", Float, 1, 2),
            Self::BF16 => row("BF16", Float, 1, 2),
            Self::I32 => row("I32", Int, 1, 4),
            Self::I64 => row("I64", Int, 1, 8),
            Self::Q4_0 => row("Q4_0", Block, 32, 18),
            Self::Q4_1 => row("Q4_1", Block, 32, 20),
            Self::Q5_0 => row("Q5_0", Block, 32, 22),
            Self::Q5_1 => row("Q5_1", Block, 32, 24),
            Self::Q8_0 => row("Q8_0", Block, 32, 34),
            Self::Q2_K => row("Q2_K", Block, 256, 84),
            Self::Q3_K => row("Q3_K", Block, 256, 110),
            Self::Q4_K => row("Q4_K", Block, 256, 144),
            Self::Q5_K => row("Q5_K", Block, 256, 176),
            Self::Q6_K => row("Q6_K", Block, 256, 210),
            Self::IQ4_NL => row("IQ4_NL", Block, 32, 18),
            Self::IQ4_XS => row("IQ4_XS", Block, 256, 136),
            Self::MXFP4 => row("MXFP4", Block, 32, 17),
        }
    }

    /// The dtype's name, as users and files write it.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Scalar float, scalar integer or block.
    #[inline]
    pub const fn kind(self) -> DTypeKind {
        self.row().kind
    }

    /// Elements in one block; 1 for scalars.
    #[inline]
    pub const fn block_elems(self) -> usize {
        self.row().block_elems
    }

    /// Bytes in one block; the element's size for scalars. Never 0.
    #[inline]
    pub const fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// Is this a scalar floating-point type?
    #[inline]
    pub const fn is_float(self) -> bool {
        matches!(self.kind(), DTypeKind::Float)
    }

    /// Is this an integer type?
    #[inline]
    pub const fn is_int(self) -> bool {
        matches!(self.kind(), DTypeKind::Int)
    }

    /// Is this a block format?
    #[inline]
    pub const fn is_block(self) -> bool {
        matches!(self.kind(), DTypeKind::Block)
    }

    /// Bytes of a contiguous row of `elems` elements, or `None` if it does not end on a block or overflows.
    #[inline]
    pub const fn row_bytes(self, elems: usize) -> Option<usize> {
        let Row {
            block_elems,
            block_bytes,
            ..
        } = self.row();
        if !elems.is_multiple_of(block_elems) {
            return None;
        }
        (elems / block_elems).checked_mul(block_bytes)
    }

    /// The dtype with this name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|d| d.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_never_zero_and_names_are_unique() {
        for d in DType::ALL {
            assert!(d.block_bytes() > 0 && d.block_elems() > 0);
            assert_eq!(DType::from_name(d.name()), Some(d));
            assert_eq!(DType::from_name(&d.name().to_lowercase()), Some(d));
        }
    }

    #[test]
    fn row_bytes_wants_whole_blocks() {
        assert_eq!(DType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(DType::Q4_K.row_bytes(128), None);
        assert_eq!(DType::F32.row_bytes(usize::MAX), None);
        assert_eq!(DType::Q8_0.row_bytes(0), Some(0));
    }
}
