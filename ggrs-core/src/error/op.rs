//! Why an op cannot take its operands: the rule broken, with the roles and numbers.

use std::fmt;

use crate::{DType, Dim, Shape};

/// A set of dtypes in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DTypeSet {
    /// F32, F16 or BF16.
    Float,
    /// F32 only.
    F32,
    /// I32 only.
    I32,
    /// I32 or I64.
    Ids,
    /// Any float or block format.
    Weights,
    /// What attention can read: F32, F16, BF16, Q8_0, Q4_0.
    Kv,
    /// What a device can write from floats: F32, F16, BF16 and the formats with a quantiser.
    Writable,
    /// Exactly this one.
    One(DType),
    /// F16 or F32, as for masks.
    Mask,
}

impl DTypeSet {
    /// Is `dtype` in the set?
    pub fn contains(self, dtype: DType) -> bool {
        use DType as D;
        match self {
            Self::Float => dtype.is_float(),
            Self::F32 => dtype == D::F32,
            Self::I32 => dtype == D::I32,
            Self::Ids => dtype.is_int(),
            Self::Weights => dtype.is_float() || dtype.is_block(),
            Self::Kv => matches!(dtype, D::F32 | D::F16 | D::BF16 | D::Q8_0 | D::Q4_0),
            Self::Writable => {
                dtype.is_float()
                    || matches!(
                        dtype,
                        D::Q8_0 | D::Q4_0 | D::Q4_1 | D::Q5_0 | D::Q5_1 | D::IQ4_NL
                    )
            }
            Self::One(d) => dtype == d,
            Self::Mask => matches!(dtype, D::F32 | D::F16),
        }
    }
}

impl fmt::Display for DTypeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float => "F32, F16 or BF16",
            Self::F32 => "F32",
            Self::I32 => "I32",
            Self::Ids => "I32 or I64",
            Self::Weights => "a float or block format",
            Self::Kv => "F32, F16, BF16, Q8_0 or Q4_0",
            Self::Writable => "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 or IQ4_NL",
            Self::One(d) => d.name(),
            Self::Mask => "F32 or F16",
        })
    }
}

/// The way out of a wrong dtype, where a cast is one.
fn cast_hint(got: DType, expected: DTypeSet) -> &'static str {
    let wants_ints = matches!(expected, DTypeSet::I32 | DTypeSet::Ids);
    if wants_ints == got.is_int() {
        "; insert a cast"
    } else {
        ""
    }
}

/// The rule an op's operands or parameters broke.
///
/// Axes are counted from 0, outermost first. `role` is the operand's name in the op ("weights", "positions").
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// Wrong number of operands.
    #[error("takes {expected} operands, got {got}")]
    Arity {
        /// How many the op takes with these parameters.
        expected: usize,
        /// How many were given.
        got: usize,
    },
    /// A dtype outside what the operand may be.
    #[error("{role} must be {expected}, got {got}{}", cast_hint(*got, *expected))]
    DType {
        /// Which operand.
        role: &'static str,
        /// Its dtype.
        got: DType,
        /// What it may be.
        expected: DTypeSet,
    },
    /// Wrong number of axes.
    #[error("{role} must have {expected}, got {got}")]
    Rank {
        /// Which operand.
        role: &'static str,
        /// Its shape.
        got: Shape,
        /// The axes wanted, in words: "3 axes [tokens, heads, width]".
        expected: &'static str,
    },
    /// Two operands that must agree on a size do not.
    #[error("{what} differs: {a} has {a_dim}, {b} has {b_dim}")]
    Mismatch {
        /// The size in words: "inner size k".
        what: &'static str,
        /// First operand.
        a: &'static str,
        /// Its size.
        a_dim: Dim,
        /// Second operand.
        b: &'static str,
        /// Its size.
        b_dim: Dim,
    },
    /// A size that must divide another does not.
    #[error("{what} ({got}) must be a multiple of {of_what} ({of})")]
    NotMultiple {
        /// The size in words.
        what: &'static str,
        /// Its value.
        got: Dim,
        /// The divisor in words.
        of_what: &'static str,
        /// Its value.
        of: usize,
    },
    /// Two shapes cannot be broadcast together.
    #[error(
        "shapes {a} and {b} do not broadcast: each axis must be equal or 1 (aligned at the last axis)"
    )]
    Broadcast {
        /// First shape.
        a: Shape,
        /// Second shape.
        b: Shape,
    },
    /// A reshape that changes the number of elements.
    #[error("cannot reshape {from} to {to}: the number of elements differs")]
    ElementCount {
        /// Shape given.
        from: Shape,
        /// Shape asked for.
        to: Shape,
    },
    /// A view that strides cannot express.
    #[error(
        "cannot view {from} (strides {strides:?}) as {to} without moving data; call contiguous() first"
    )]
    NeedsCopy {
        /// Shape given.
        from: Shape,
        /// Its strides in elements.
        strides: Vec<usize>,
        /// Shape asked for.
        to: Shape,
    },
    /// An axis that is not there.
    #[error("axis {axis} does not exist: {role} has shape {shape}")]
    Axis {
        /// Which operand.
        role: &'static str,
        /// The axis asked for.
        axis: usize,
        /// The operand's shape.
        shape: Shape,
    },
    /// A list of axes that is not a permutation.
    #[error("{axes:?} is not a permutation of the {rank} axes")]
    Permutation {
        /// The list given.
        axes: Vec<usize>,
        /// Number of axes.
        rank: usize,
    },
    /// A slice outside its axis.
    #[error("slice {start}..{end} is outside axis {axis} of size {dim}")]
    SliceRange {
        /// The axis.
        axis: usize,
        /// First element.
        start: usize,
        /// One past the last element.
        end: usize,
        /// The axis's size.
        dim: Dim,
    },
    /// A view that would cut a quantisation block.
    #[error("{role} is {dtype}: a view may not cut or scatter its blocks of {} elements along the last axis", dtype.block_elems())]
    CutsBlock {
        /// Which operand.
        role: &'static str,
        /// Its dtype.
        dtype: DType,
    },
    /// An operand must be stored without gaps.
    #[error(
        "{role} must be contiguous, got strides {strides:?} for shape {shape}; call contiguous() first"
    )]
    NotContiguous {
        /// Which operand.
        role: &'static str,
        /// Its shape.
        shape: Shape,
        /// Its strides in elements.
        strides: Vec<usize>,
    },
    /// The last axis of an operand must be stored without gaps.
    #[error(
        "the last axis of {role} must be contiguous, got strides {strides:?} for shape {shape}; call contiguous() first"
    )]
    LastAxisStrided {
        /// Which operand.
        role: &'static str,
        /// Its shape.
        shape: Shape,
        /// Its strides in elements.
        strides: Vec<usize>,
    },
    /// A parameter outside its range.
    #[error("{name} = {got} is not allowed: it must be {rule}")]
    Param {
        /// Name of the parameter.
        name: &'static str,
        /// Its value.
        got: f64,
        /// The rule in words.
        rule: &'static str,
    },
    /// A size outside its range.
    #[error("{what} is {got}, at most {max} is possible")]
    TooLarge {
        /// The size in words.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// More axes than GGRS handles.
    #[error("shape {shape} has {} axes, at most {max} are supported", shape.rank())]
    RankLimit {
        /// The shape.
        shape: Shape,
        /// The limit.
        max: usize,
    },
    /// A shape whose elements or bytes overflow, or that cuts a block.
    #[error(
        "{dtype} {shape} has no size in bytes: it overflows or its last axis is not whole blocks of {}",
        dtype.block_elems()
    )]
    NoSize {
        /// Element type.
        dtype: DType,
        /// The shape.
        shape: Shape,
    },
    /// An operation that a symbolic axis does not allow.
    #[error("axis {axis} of {role} is symbolic ({dim}): {why}")]
    Symbolic {
        /// Which operand.
        role: &'static str,
        /// The axis.
        axis: usize,
        /// The symbol.
        dim: Dim,
        /// What cannot be done with it, and what can.
        why: &'static str,
    },
    /// An op that writes in place got something that cannot be written.
    #[error("{role} cannot be written: it is {what}; use a state or the result of an op")]
    NotWritable {
        /// Which operand.
        role: &'static str,
        /// What it is: "a weight", "a constant", "an input", "a broadcast view".
        what: &'static str,
    },
    /// A dtype that can be read but not written.
    #[error(
        "{dtype} cannot be written: it has no quantiser; written can be {}",
        DTypeSet::Writable
    )]
    NoQuantiser {
        /// The dtype.
        dtype: DType,
    },
    /// Constant data whose length does not match its description.
    #[error("the constant has {got} bytes, {dtype} {shape} needs {expected}")]
    ConstantBytes {
        /// Element type.
        dtype: DType,
        /// Shape.
        shape: Shape,
        /// Bytes it needs.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
}
