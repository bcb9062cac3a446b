//! An operand in a table row: dtype, shape and view. It holds no data.

use std::fmt;

use ggrs_core::DType;

use super::View;

/// Dtype, shape and view of an operand.
#[derive(Clone, PartialEq, Eq)]
pub struct Operand {
    /// Element type.
    pub dtype: DType,
    /// What the op sees, outermost axis first.
    pub shape: Vec<usize>,
    /// How it lies in its leaf.
    pub view: View,
}

/// A plain operand.
pub fn operand(dtype: DType, shape: impl Into<Vec<usize>>) -> Operand {
    Operand {
        dtype,
        shape: shape.into(),
        view: View::Plain,
    }
}

impl Operand {
    /// The same through a view.
    #[must_use]
    pub fn via(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// Size of the axis `i` from the end; 1 if there is none.
    pub fn from_end(&self, i: usize) -> usize {
        self.shape.iter().rev().nth(i).copied().unwrap_or(1)
    }
}

impl fmt::Debug for Operand {
    /// As rows of tables are named: `F16[2, 7] Columns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)?;
        match self.view {
            View::Plain => Ok(()),
            view => write!(f, " {view:?}"),
        }
    }
}
