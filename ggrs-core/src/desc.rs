//! What is known of a tensor before it has memory: dtype, shape, layout.

use std::fmt;

use crate::{DType, Layout, Shape};

/// Dtype, shape and layout of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorDesc {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// Where the elements lie in the storage.
    pub layout: Layout,
}

impl TensorDesc {
    /// A fresh contiguous tensor.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let layout = Layout::contiguous(&shape);
        Self {
            dtype,
            shape,
            layout,
        }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Is the tensor stored without gaps, last axis innermost?
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous(&self.shape)
    }

    /// Bytes of the elements themselves (symbols at their largest), or `None` on overflow or a cut block.
    pub fn bytes(&self) -> Option<usize> {
        self.elem_bytes(self.shape.elems()?)
    }

    /// Bytes of storage the tensor reaches from the storage's start.
    pub fn span_bytes(&self) -> Option<usize> {
        let span = self.layout.span(&self.shape);
        self.elem_bytes(span.next_multiple_of(self.dtype.block_elems()))
    }

    /// Bytes of `elems` elements that are whole blocks.
    pub fn elem_bytes(&self, elems: usize) -> Option<usize> {
        self.dtype.row_bytes(elems)
    }
}

impl fmt::Display for TensorDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)?;
        if !self.is_contiguous() {
            write!(f, " strides {:?}", self.layout.strides())?;
        }
        if self.layout.offset() != 0 {
            write!(f, " offset {}", self.layout.offset())?;
        }
        Ok(())
    }
}
