//! ggml's numbers for tensor types: the table that joins them to `DType`.
//!
//! Types that GGRS does not compute with are in the table too, so that a file which holds some can still be listed,
//! and its extents checked. What the blocks contain is not known here.

use std::fmt;

use ggrs_core::DType;

/// A tensor type by its number in GGUF files (`enum ggml_type`), supported by GGRS or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GgmlType(u32);

/// One row of the table.
struct Row {
    id: u32,
    name: &'static str,
    layout: Layout,
}

/// How a type's elements are stored.
#[derive(Clone, Copy)]
enum Layout {
    /// A dtype of GGRS.
    Known(DType),
    /// Known to ggml only: elements and bytes of a block.
    Foreign {
        block_elems: usize,
        block_bytes: usize,
    },
    /// Was in ggml once; no file may use it now, and its size is not recorded.
    Removed,
}

/// The number of each dtype.
const fn id_of(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q2_K => 10,
        DType::Q3_K => 11,
        DType::Q4_K => 12,
        DType::Q5_K => 13,
        DType::Q6_K => 14,
        DType::IQ4_NL => 20,
        DType::IQ4_XS => 23,
        DType::I32 => 26,
        DType::I64 => 27,
        DType::BF16 => 30,
        DType::MXFP4 => 39,
    }
}

const fn known(dtype: DType) -> Row {
    Row {
        id: id_of(dtype),
        name: dtype.name(),
        layout: Layout::Known(dtype),
    }
}

const fn foreign(id: u32, name: &'static str, block_elems: usize, block_bytes: usize) -> Row {
    Row {
        id,
        name,
        layout: Layout::Foreign {
            block_elems,
            block_bytes,
        },
    }
}

const fn removed(id: u32, name: &'static str) -> Row {
    Row {
        id,
        name,
        layout: Layout::Removed,
    }
}

/// `enum ggml_type` of ggml.h in its order, with the block sizes of ggml-common.h.
const TABLE: [Row; 43] = [
    known(DType::F32),
    known(DType::F16),
    known(DType::Q4_0),
    known(DType::Q4_1),
    removed(4, "Q4_2"),
    removed(5, "Q4_3"),
    known(DType::Q5_0),
    known(DType::Q5_1),
    known(DType::Q8_0),
    foreign(9, "Q8_1", 32, 36),
    known(DType::Q2_K),
    known(DType::Q3_K),
    known(DType::Q4_K),
    known(DType::Q5_K),
    known(DType::Q6_K),
    foreign(15, "Q8_K", 256, 292),
    foreign(16, "IQ2_XXS", 256, 66),
    foreign(17, "IQ2_XS", 256, 74),
    foreign(18, "IQ3_XXS", 256, 98),
    foreign(19, "IQ1_S", 256, 50),
    known(DType::IQ4_NL),
    foreign(21, "IQ3_S", 256, 110),
    foreign(22, "IQ2_S", 256, 82),
    known(DType::IQ4_XS),
    foreign(24, "I8", 1, 1),
    foreign(25, "I16", 1, 2),
    known(DType::I32),
    known(DType::I64),
    foreign(28, "F64", 1, 8),
    foreign(29, "IQ1_M", 256, 56),
    known(DType::BF16),
    removed(31, "Q4_0_4_4"),
    removed(32, "Q4_0_4_8"),
    removed(33, "Q4_0_8_8"),
    foreign(34, "TQ1_0", 256, 54),
    foreign(35, "TQ2_0", 256, 66),
    removed(36, "IQ4_NL_4_4"),
    removed(37, "IQ4_NL_4_8"),
    removed(38, "IQ4_NL_8_8"),
    known(DType::MXFP4),
    foreign(40, "NVFP4", 64, 36),
    foreign(41, "Q1_0", 128, 18),
    foreign(42, "Q2_0", 64, 18),
];

impl GgmlType {
    /// The type with this number; any number is accepted, since files may hold any.
    pub const fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// The number in the file.
    pub const fn id(self) -> u32 {
        self.0
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.id == self.0)
    }

    /// ggml's name, or `None` for a number that ggml has not given out.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.name)
    }

    /// The dtype that GGRS computes with, or `None` if it does not support this type.
    pub fn dtype(self) -> Option<DType> {
        match self.row()?.layout {
            Layout::Known(dtype) => Some(dtype),
            Layout::Foreign { .. } | Layout::Removed => None,
        }
    }

    /// Elements and bytes of one block, or `None` if that is not known.
    pub fn block(self) -> Option<(usize, usize)> {
        match self.row()?.layout {
            Layout::Known(dtype) => Some((dtype.block_elems(), dtype.block_bytes())),
            Layout::Foreign {
                block_elems,
                block_bytes,
            } => Some((block_elems, block_bytes)),
            Layout::Removed => None,
        }
    }
}

impl From<DType> for GgmlType {
    fn from(dtype: DType) -> Self {
        Self(id_of(dtype))
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "'{name}' (id {})", self.0),
            None => write!(f, "with id {}, which this version does not know", self.0),
        }
    }
}

impl fmt::Debug for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GgmlType({} = {})", self.0, self.name().unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_a_number_and_comes_back() {
        for dtype in DType::ALL {
            assert_eq!(GgmlType::from(dtype).dtype(), Some(dtype));
        }
    }

    #[test]
    fn the_table_is_in_ggml_s_order() {
        assert!(TABLE.iter().map(|row| row.id).eq(0..43));
    }

    #[test]
    fn unsupported_types_are_named() {
        assert_eq!(GgmlType::from_id(16).to_string(), "'IQ2_XXS' (id 16)");
        assert_eq!(GgmlType::from_id(16).dtype(), None);
        assert_eq!(GgmlType::from_id(16).block(), Some((256, 66)));
        assert_eq!(GgmlType::from_id(31).block(), None);
        assert_eq!(
            GgmlType::from_id(999).to_string(),
            "with id 999, which this version does not know"
        );
    }
}
