//! The operands of an op under inference, with the checks that ops share. Each check names the operand's role.

use crate::ops::Outputs;
use crate::{DType, DTypeSet, Dim, MAX_RANK, OpError, Shape, TensorDesc};

/// The operands of an op with their roles.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    descs: &'a [&'a TensorDesc],
    roles: &'static [&'static str],
}

/// One operand with its role.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// The operand's name in the op.
    pub role: &'static str,
    /// Its description.
    pub desc: &'a TensorDesc,
}

impl<'a> Operands<'a> {
    /// Operands in the order of `roles`.
    pub fn new(descs: &'a [&'a TensorDesc], roles: &'static [&'static str]) -> Self {
        Self { descs, roles }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.descs.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.descs.is_empty()
    }

    /// The name of operand `i`; the last role names all that follow.
    pub fn role(&self, i: usize) -> &'static str {
        self.roles
            .get(i)
            .or(self.roles.last())
            .copied()
            .unwrap_or("operand")
    }

    /// Exactly `N` operands.
    pub fn exactly<const N: usize>(&self) -> Result<[Operand<'a>; N], OpError> {
        let arity = OpError::Arity {
            expected: N,
            got: self.descs.len(),
        };
        let all: Vec<Operand<'a>> = self.iter().collect();
        all.try_into().map_err(|_| arity)
    }

    /// All operands.
    pub fn iter(&self) -> impl Iterator<Item = Operand<'a>> {
        let this = *self;
        self.descs.iter().enumerate().map(move |(i, desc)| Operand {
            role: this.role(i),
            desc,
        })
    }
}

impl<'a> Operand<'a> {
    /// The shape.
    pub fn shape(&self) -> &'a Shape {
        &self.desc.shape
    }

    /// The dtype must be in `set`.
    pub fn dtype(self, set: DTypeSet) -> Result<Self, OpError> {
        if set.contains(self.desc.dtype) {
            return Ok(self);
        }
        Err(OpError::DType {
            role: self.role,
            got: self.desc.dtype,
            expected: set,
        })
    }

    /// The number of axes must be `rank`; `expected` says so in words.
    pub fn rank(self, rank: usize, expected: &'static str) -> Result<Self, OpError> {
        if self.desc.rank() == rank {
            return Ok(self);
        }
        Err(OpError::Rank {
            role: self.role,
            got: self.desc.shape.clone(),
            expected,
        })
    }

    /// There must be at least `rank` axes.
    pub fn min_rank(self, rank: usize, expected: &'static str) -> Result<Self, OpError> {
        if self.desc.rank() >= rank {
            return Ok(self);
        }
        Err(OpError::Rank {
            role: self.role,
            got: self.desc.shape.clone(),
            expected,
        })
    }

    /// The axis counted from the end (0 is the last); 1 if there is none.
    pub fn from_end(&self, i: usize) -> Dim {
        let n = self.desc.rank();
        n.checked_sub(i + 1)
            .and_then(|axis| self.desc.shape.dim(axis))
            .unwrap_or(Dim::Fixed(1))
    }

    /// A fixed size counted from the end; symbols are refused with `why`.
    pub fn fixed_from_end(&self, i: usize, why: &'static str) -> Result<usize, OpError> {
        let dim = self.from_end(i);
        let axis = self.desc.rank().saturating_sub(i + 1);
        dim.fixed().ok_or(OpError::Symbolic {
            role: self.role,
            axis,
            dim,
            why,
        })
    }

    /// The elements must lie without gaps.
    pub fn contiguous(self) -> Result<Self, OpError> {
        if self.desc.is_contiguous() {
            return Ok(self);
        }
        Err(OpError::NotContiguous {
            role: self.role,
            shape: self.desc.shape.clone(),
            strides: self.desc.layout.strides().to_vec(),
        })
    }

    /// The last axis must lie without gaps.
    pub fn rows(self) -> Result<Self, OpError> {
        let shape = &self.desc.shape;
        if self
            .desc
            .layout
            .contiguous_from(shape, shape.rank().saturating_sub(1))
        {
            return Ok(self);
        }
        Err(OpError::LastAxisStrided {
            role: self.role,
            shape: shape.clone(),
            strides: self.desc.layout.strides().to_vec(),
        })
    }

    /// The size `i` axes from the end must equal `dim` of `other`.
    pub fn same(
        &self,
        i: usize,
        what: &'static str,
        other: &'static str,
        dim: Dim,
    ) -> Result<(), OpError> {
        let mine = self.from_end(i);
        if mine == dim {
            return Ok(());
        }
        Err(OpError::Mismatch {
            what,
            a: self.role,
            a_dim: mine,
            b: other,
            b_dim: dim,
        })
    }

    /// A vector of `dim` elements.
    pub fn vector(
        self,
        what: &'static str,
        other: &'static str,
        dim: Dim,
    ) -> Result<Self, OpError> {
        self.rank(1, "1 axis")?.same(0, what, other, dim)?;
        Ok(self)
    }
}

/// A fresh output, checked to have a size in bytes and no more axes than GGRS handles.
pub(super) fn fresh(dtype: DType, shape: Shape) -> Result<TensorDesc, OpError> {
    if shape.rank() > MAX_RANK {
        return Err(OpError::RankLimit {
            shape,
            max: MAX_RANK,
        });
    }
    let desc = TensorDesc::new(dtype, shape);
    match desc.bytes() {
        // Offsets inside one tensor must fit a signed machine word.
        Some(b)
            if isize::try_from(b).is_ok()
                && desc
                    .shape
                    .last()
                    .bound()
                    .is_multiple_of(dtype.block_elems()) =>
        {
            Ok(desc)
        }
        _ => Err(OpError::NoSize {
            dtype,
            shape: desc.shape,
        }),
    }
}

/// One fresh output.
pub(super) fn one(dtype: DType, shape: Shape) -> Result<Outputs, OpError> {
    Ok(Outputs::from_iter([fresh(dtype, shape)?]))
}

/// The shape both broadcast to: axes are aligned at the last one and must be equal or 1.
pub(super) fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, OpError> {
    let rank = a.rank().max(b.rank());
    let at = |s: &Shape, axis: usize| match (axis + s.rank()).checked_sub(rank) {
        Some(i) => s.dim(i).unwrap_or(Dim::Fixed(1)),
        None => Dim::Fixed(1),
    };
    let mut dims = Vec::with_capacity(rank);
    for axis in 0..rank {
        dims.push(match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => x,
            (x, Dim::Fixed(1)) => x,
            (Dim::Fixed(1), y) => y,
            _ => {
                return Err(OpError::Broadcast {
                    a: a.clone(),
                    b: b.clone(),
                });
            }
        });
    }
    Ok(Shape::new(dims))
}

/// `got` must be a multiple of the fixed size `of`.
pub(super) fn multiple(
    what: &'static str,
    got: Dim,
    of_what: &'static str,
    of: usize,
) -> Result<(), OpError> {
    match got {
        Dim::Fixed(n) if of != 0 && n % of == 0 => Ok(()),
        _ => Err(OpError::NotMultiple {
            what,
            got,
            of_what,
            of,
        }),
    }
}

/// A positive finite parameter.
pub(super) fn positive(name: &'static str, x: f32) -> Result<(), OpError> {
    if x.is_finite() && x > 0.0 {
        return Ok(());
    }
    Err(OpError::Param {
        name,
        got: f64::from(x),
        rule: "finite and above 0",
    })
}

/// A finite parameter.
pub(super) fn finite(name: &'static str, x: f32) -> Result<(), OpError> {
    if x.is_finite() {
        return Ok(());
    }
    Err(OpError::Param {
        name,
        got: f64::from(x),
        rule: "finite",
    })
}

/// A finite parameter that is not negative.
pub(super) fn not_negative(name: &'static str, x: f32) -> Result<(), OpError> {
    if x.is_finite() && x >= 0.0 {
        return Ok(());
    }
    Err(OpError::Param {
        name,
        got: f64::from(x),
        rule: "finite and not below 0",
    })
}
