//! Views: the same storage read through another shape or layout. Nothing runs.

use smallvec::SmallVec;

use crate::ops::operands::Operand;
use crate::ops::{Alias, OpSpec, Operands, Outputs};
use crate::{Dim, Layout, MAX_RANK, OpError, Shape, TensorDesc};

const ROLES: &[&str] = &["x"];

/// A view's output, checked to keep blocks whole and to have few enough axes.
fn view(x: Operand<'_>, shape: Shape, layout: Layout) -> Result<Outputs, OpError> {
    let dtype = x.desc.dtype;
    if shape.rank() > MAX_RANK {
        return Err(OpError::RankLimit {
            shape,
            max: MAX_RANK,
        });
    }
    if !layout.keeps_blocks(dtype, &shape) {
        return Err(OpError::CutsBlock {
            role: x.role,
            dtype,
        });
    }
    Ok(Outputs::from_iter([TensorDesc {
        dtype,
        shape,
        layout,
    }]))
}

macro_rules! is_view {
    ($stem:literal) => {
        fn stem(&self) -> &'static str {
            $stem
        }

        fn roles(&self) -> &'static [&'static str] {
            ROLES
        }

        fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
            0.0
        }

        fn bytes(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
            0.0
        }

        fn alias(&self) -> Alias {
            Alias::View
        }
    };
}

/// The same elements in the same order under another shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

impl OpSpec for Reshape {
    is_view!("reshape");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let from = x.shape();
        if !from.same_elems(&self.shape) {
            return Err(OpError::ElementCount {
                from: from.clone(),
                to: self.shape.clone(),
            });
        }
        let layout =
            x.desc
                .layout
                .reshape(from, &self.shape)
                .ok_or_else(|| OpError::NeedsCopy {
                    from: from.clone(),
                    strides: x.desc.layout.strides().to_vec(),
                    to: self.shape.clone(),
                })?;
        view(x, self.shape.clone(), layout)
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("shape", self.shape.to_string())]
    }
}

/// Axes in another order: output axis `i` is input axis `axes[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permute {
    /// The order.
    pub axes: SmallVec<[usize; 4]>,
}

impl OpSpec for Permute {
    is_view!("permute");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.desc.rank()) {
            return Err(OpError::Permutation {
                axes: self.axes.to_vec(),
                rank: x.desc.rank(),
            });
        }
        let shape = Shape::new(self.axes.iter().filter_map(|&a| x.shape().dim(a)));
        view(x, shape, x.desc.layout.permute(&self.axes))
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("axes", format!("{:?}", self.axes))]
    }
}

/// `len` elements of one axis, from `start`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}

impl OpSpec for Slice {
    is_view!("slice");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let axis = self.axis;
        let dim = x.shape().dim(axis).ok_or_else(|| OpError::Axis {
            role: x.role,
            axis,
            shape: x.shape().clone(),
        })?;
        let Dim::Fixed(size) = dim else {
            let why = "its size is known only when the graph is bound; slice another axis or use get_rows";
            return Err(OpError::Symbolic {
                role: x.role,
                axis,
                dim,
                why,
            });
        };
        let end = self.start.saturating_add(self.len);
        if end > size {
            return Err(OpError::SliceRange {
                axis,
                start: self.start,
                end,
                dim,
            });
        }
        view(
            x,
            x.shape().clone().with(axis, self.len),
            x.desc.layout.slice(axis, self.start),
        )
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![
            ("axis", self.axis.to_string()),
            (
                "range",
                format!("{}..{}", self.start, self.start + self.len),
            ),
        ]
    }
}

/// Axes of size 1 repeated to `shape`, aligned at the last axis; new leading axes are added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    /// The shape to fill.
    pub shape: Shape,
}

impl OpSpec for Broadcast {
    is_view!("broadcast");

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        let from = x.shape();
        let fits = from.rank() <= self.shape.rank()
            && from
                .dims()
                .iter()
                .rev()
                .zip(self.shape.dims().iter().rev())
                .all(|(a, b)| a == b || *a == Dim::Fixed(1));
        if !fits {
            return Err(OpError::Broadcast {
                a: from.clone(),
                b: self.shape.clone(),
            });
        }
        view(
            x,
            self.shape.clone(),
            x.desc.layout.broadcast(from, &self.shape),
        )
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("shape", self.shape.to_string())]
    }
}
